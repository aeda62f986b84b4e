"""The decision: what is wanted against what exists. No calls are made."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.contract import ContainerSpec, Probe
from cpr_kit.deploy import facts as known
from cpr_kit.deploy.changes import endpoint_fields
from cpr_kit.deploy.facts import ARTIFACTS, CANDIDATE, IMAGE, LIVE, PREVIOUS, Facts
from cpr_kit.deploy.lease import LABEL
from cpr_kit.deploy.plan import RegionPlan, decide
from cpr_kit.deploy.resources import Deployed, Endpoint, Version
from cpr_kit.deploy.target import OURS, CheckRequest, Scale, Target
from cpr_kit.deploy_config import RequestLogging
from cpr_kit.errors import DeployError

IMAGE_NAME = "us-central1-docker.pkg.dev/p/r/iris:1"
DIGEST = "sha256:" + "ab" * 32
SPEC = ContainerSpec.kit(IMAGE_NAME)


def target(**fields):
    return Target(
        **{"project": "p", "region": "us-central1", "endpoint": "iris", "model": "iris", "image": IMAGE_NAME,
           "spec": SPEC, **fields}
    )  # fmt: skip


def facts(**fields):
    empty = {"endpoint": None, "versions": (), "reference": IMAGE_NAME, "digest": DIGEST, "artifacts": None}
    return Facts(**{**empty, **fields})


def version(number, wanted, *aliases, key=None, artifacts=None):
    """One that this kit uploaded; `key` is that of another one than is wanted."""
    there = facts(artifacts=artifacts)
    mark = known.mark(wanted, there) if key is None else f"cpr up: endpoint iris, key {key}"
    return Version(
        model="iris",
        number=str(number),
        labels=known.labels(wanted, there),
        aliases=tuple(aliases),
        description=mark,
    )


def deployed(wanted, one, traffic=100, **fields):
    return Deployed(
        **{"id": known.deployed_id(wanted, one), "display_name": str(one), "model": one.model, "number": one.number,
           "scale": wanted.scale, "traffic": traffic, **fields}
    )  # fmt: skip


def endpoint(*models, **fields):
    return Endpoint(
        **{"id": "iris", "name": "projects/1/locations/us-central1/endpoints/iris", "display_name": "iris",
           "kind": "public", "labels": {OURS: "iris"}, "deployed": models, **fields}
    )  # fmt: skip


def actions(plan):
    return [(step.action, step.what) for step in plan.steps if step.action != "keep"]


def settled(wanted):
    one = version(1, wanted, LIVE)
    return facts(endpoint=endpoint(deployed(wanted, one)), versions=(one,))


def test_from_nothing():
    plan = decide(target(), facts(digest=None))
    assert actions(plan) == [
        ("push", "image"),
        ("create", "endpoint"),
        ("upload", "model version"),
        ("deploy", "deployed model"),
        ("shift", "traffic"),
    ]


def test_what_is_there_is_kept():
    wanted = target()
    plan = decide(wanted, settled(wanted))
    assert not plan.changes
    assert {step.action for step in plan.steps} == {"keep"}


def test_local_artifacts_are_staged_for_an_upload_alone():
    wanted = target(artifacts="/model", staging="gs://b")
    assert ("stage", "artifacts") in actions(decide(wanted, facts(artifacts="1" * 64)))
    one = version(1, wanted, LIVE, artifacts="1" * 64)
    there = facts(endpoint=endpoint(deployed(wanted, one)), versions=(one,), artifacts="1" * 64)
    assert not decide(wanted, there).changes


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"digest": "sha256:" + "cd" * 32}, "another image than iris@1"),
        ({"artifacts": "2" * 64}, "other artifacts than iris@1"),
    ],
)
def test_a_new_version_says_what_is_new(changed, reason):
    wanted = target()
    plan = decide(wanted, replace(settled(wanted), **changed))
    assert actions(plan) == [
        ("upload", "model version"),
        ("deploy", "deployed model"),
        ("shift", "traffic"),
        ("undeploy", "deployed model"),
    ]
    assert next(step.reason for step in plan.steps if step.action == "upload") == reason


@pytest.mark.parametrize("change", [{"env": {"A": "1"}}, {"predict_route": "/p"}, {"shared_memory_size_mb": 64}])
def test_another_start_is_another_version(change):
    wanted = target()
    other = replace(wanted, spec=replace(SPEC, **change))
    plan = decide(other, settled(wanted))
    assert next(step.reason for step in plan.steps if step.action == "upload").startswith("another start than iris@1")


def test_the_order_of_variables_is_part_of_a_start():
    """An entry may refer to those before it (ModelContainerSpec.env)."""
    one = target(spec=replace(SPEC, env={"A": "1", "B": "$(A)"}))
    other = target(spec=replace(SPEC, env={"B": "$(A)", "A": "1"}))
    assert known.key(one, facts()) != known.key(other, facts())


def test_the_tag_is_no_part_of_a_version():
    one = target()
    other = target(image=IMAGE_NAME[:-1] + "2", spec=replace(SPEC, image_uri=IMAGE_NAME[:-1] + "2"))
    assert known.key(one, facts()) == known.key(other, facts())


def test_a_canary_is_a_step_of_its_own_where_something_serves():
    wanted = target()
    shares = [step.reason for step in decide(wanted, replace(settled(wanted), artifacts="3"), canary=10).steps
              if step.action == "shift"]  # fmt: skip
    assert shares == ["10 % for the canary", "0 % -> 100 %"]
    assert [s.reason for s in decide(wanted, facts(), canary=10).steps if s.action == "shift"] == ["0 % -> 100 %"]


def test_replicas_are_changed_in_place_and_machines_by_a_new_deployed_model():
    wanted = target()
    there = settled(wanted)
    more = target(scale=Scale(max_replicas=3))
    assert actions(decide(more, there)) == [("change", "deployed model")]
    other = target(scale=Scale(machine_type="n1-standard-4"))
    assert actions(decide(other, there)) == [
        ("deploy", "deployed model"), ("shift", "traffic"), ("undeploy", "deployed model"),
    ]  # fmt: skip


def test_the_previous_version_stays_where_that_is_asked():
    wanted = target(keep_previous=True)
    there = replace(settled(wanted), digest="sha256:" + "cd" * 32)
    plan = decide(wanted, there)
    assert ("undeploy", "deployed model") not in actions(plan)
    assert any(step.action == "keep" and step.reason == "kept for a rollback" for step in plan.steps)


def test_an_endpoint_of_another_kind_is_refused():
    with pytest.raises(DeployError, match="is public, and \\[deploy\\] kind is dedicated"):
        decide(target(kind="dedicated"), facts(endpoint=endpoint()))


def test_traffic_is_not_taken_from_models_of_others():
    wanted = target()
    theirs = Deployed(id="1", display_name="x", model="theirs", number="4", scale=Scale(), traffic=100)
    with pytest.raises(DeployError, match="gives 100 % of its traffic to models that are not iris: theirs@4"):
        decide(wanted, facts(endpoint=endpoint(theirs)))
    idle = replace(theirs, traffic=0)
    plan = decide(wanted, facts(endpoint=endpoint(idle)))
    assert ("undeploy", "deployed model") not in actions(plan)


def test_a_second_model_on_a_peered_network_is_refused():
    wanted = target(kind="psa", network="projects/1/global/networks/n")
    there = settled(wanted)
    there = replace(
        there, endpoint=replace(there.endpoint, kind="psa", network=wanted.network), digest="sha256:" + "cd" * 32
    )
    with pytest.raises(DeployError, match="takes one deployed model and no split"):
        decide(wanted, there)


def test_labels_and_logging_are_changed_on_our_own_endpoint_alone():
    wanted = target(labels={"team": "a"}, request_logging=RequestLogging(sampling_rate=0.5, table="bq://p.d.t"))
    there = settled(wanted)
    changed = next(step for step in decide(wanted, there).steps if step.what == "endpoint")
    assert (changed.action, changed.reason) == ("change", "labels, predict_request_response_logging_config")
    theirs = replace(there, endpoint=replace(there.endpoint, labels={}))
    assert next(step for step in decide(wanted, theirs).steps if step.what == "endpoint").action == "keep"


def test_labels_that_were_taken_out_are_seen_by_the_endpoints_description():
    wanted = target(labels={"team": "a"})
    there = settled(wanted)
    now = replace(
        there.endpoint,
        labels={OURS: "iris", "team": "a", "cost": "b", "theirs": "c"},
        description=known.label_mark(target(labels={"team": "a", "cost": "b"})),
    )
    changed = next(step for step in decide(wanted, replace(there, endpoint=now)).steps if step.what == "endpoint")
    assert (changed.action, changed.reason) == ("change", "labels (without cost)")
    fields = endpoint_fields(wanted, now, ["labels"])
    assert fields == {"labels": {OURS: "iris", "team": "a", "theirs": "c"}, "description": "cpr up: labels team"}
    bare = endpoint_fields(target(), now, ["labels"])
    assert bare == {"labels": {OURS: "iris", "theirs": "c"}, "description": ""}


def test_a_description_of_others_is_kept():
    wanted = target(labels={"team": "b"})
    now = endpoint(labels={OURS: "iris", "team": "a"}, description="for the flower shop")
    assert endpoint_fields(wanted, now, ["labels"]) == {"labels": {OURS: "iris", "team": "b"}}
    assert known.endpoint_changes(target(), now) == []


def test_required_replicas_are_changed_in_place_and_back():
    wanted = target(scale=Scale(min_replicas=3, max_replicas=3, required_replicas=1))
    assert not decide(wanted, settled(wanted)).changes
    back = target(scale=replace(wanted.scale, required_replicas=3))
    (step,) = [each for each in decide(back, settled(wanted)).steps if each.action != "keep"]
    assert (step.action, step.reason) == ("change", "1 -> 3 of them required")
    unsaid = target(scale=replace(wanted.scale, required_replicas=None))
    assert not decide(back, settled(unsaid)).changes
    more = target(scale=replace(wanted.scale, min_replicas=4, max_replicas=4, required_replicas=4))
    (step,) = [each for each in decide(more, settled(unsaid)).steps if each.action != "keep"]
    assert step.reason == "3 replicas -> 4 replicas"


@pytest.mark.parametrize(
    ("fields", "has", "message"),
    [
        ({"kind": "psa", "network": "projects/1/global/networks/b"}, {"network": "projects/1/global/networks/a"},
         'it cannot be changed | write it as it is: network = "projects/1/global/networks/a"'),
        ({"kind": "psc", "project_allowlist": ("b", "a")}, {"project_allowlist": ("a",)},
         "has the project_allowlist a, and in cpr.toml it is a, b: it cannot be changed | write it as it is: "
         'project_allowlist = ["a"]'),
        ({"kind": "psc", "project_allowlist": ("a",)}, {}, "has no project_allowlist, and in cpr.toml it is a"),
    ],
)  # fmt: skip
def test_what_an_endpoint_keeps_for_good_is_compared(fields, has, message):
    there = facts(endpoint=endpoint(kind=fields["kind"], **has))
    with pytest.raises(DeployError) as error:
        decide(target(**fields), there)
    assert message in str(error.value)
    same = {key: tuple(reversed(value)) if isinstance(value, tuple) else value for key, value in fields.items()}
    decide(target(**fields), facts(endpoint=endpoint(**same)))


@pytest.mark.parametrize(
    ("table", "has", "same"),
    [
        ("bq://p", "bq://p.logging_iris_1.request_response_logging", True),
        ("bq://p.d", "bq://p.d.request_response_logging", True),
        ("bq://p.d", "bq://p.d", True),
        ("bq://p.d", "bq://p.d2.request_response_logging", False),
        ("bq://p.d.t", "bq://p.d.other", False),
    ],
)
def test_a_table_that_vertex_ai_has_named_is_no_change(table, has, same):
    wanted = target(request_logging=RequestLogging(sampling_rate=0.5, table=table))
    names = known.endpoint_changes(wanted, endpoint(logging=(0.5, has)))
    assert names == ([] if same else ["predict_request_response_logging_config"])
    assert known.endpoint_changes(wanted, endpoint(logging=(0.25, has)))
    assert known.endpoint_changes(wanted, endpoint(logging=None))
    assert known.endpoint_changes(target(), endpoint(logging=(0.5, has)))


@pytest.mark.parametrize(
    ("wants", "has", "refused"),
    [
        (("a", "22"), ("11", "b"), False),
        (("a", "b"), ("22", "11"), False),
        (("a", "b"), ("a", "11"), False),
        (("a", "b"), ("a", "c"), True),
        (("a", "1"), ("a", "2"), True),
        (("a", "b"), ("11",), True),
    ],
)
def test_a_project_s_number_may_stand_for_its_id(wants, has, refused):
    there = facts(endpoint=endpoint(kind="psc", project_allowlist=has))
    with pytest.raises(DeployError, match="cannot be changed") if refused else contextlib.nullcontext():
        decide(target(kind="psc", project_allowlist=wants), there)


@pytest.mark.parametrize(
    ("scale", "reason"),
    [
        ({"machine_type": "n1-standard-4"}, "machine n1-standard-2 -> n1-standard-4, 1 replica"),
        ({"accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 2}, "accelerators none -> 2 x NVIDIA_TESLA_T4"),
        ({"spot": True}, "spot off -> on"),
        ({"reservation": ("any",)}, "reservation none -> any"),
        ({"tpu_topology": "2x4"}, "tpu_topology none -> 2x4"),
    ],
)
def test_what_a_deployed_model_cannot_change_deploys_it_anew_and_says_why(scale, reason):
    step = next(
        each for each in decide(target(scale=Scale(**scale)), settled(target())).steps if each.action == "deploy"
    )
    assert step.reason.startswith(reason)


def test_what_came_later_changes_no_key_and_no_id_where_it_is_not_said():
    """Or an upgrade of the kit would upload and deploy everything anew. These are of the kit before it."""
    wanted = target()
    assert known.key(wanted, facts()) == "99e284e6751d9b52164cc6ab91840b3e"
    assert known.deployed_id(wanted, version(1, wanted)) == "7030790542"
    probed = target(spec=replace(SPEC, liveness_probe=Probe(tcp=True)))
    explained = target(explanation="{}")
    assert len({known.key(each, facts()) for each in (wanted, probed, explained)}) == 3


def test_orphans_are_what_never_went_live():
    wanted = target()
    now = version(4, wanted, LIVE)
    old = version(1, wanted, key="1" * 32)
    back = version(2, wanted, PREVIOUS, key="2" * 32)
    left = version(3, wanted, CANDIDATE + "1", key="f" * 32)
    double = version(5, wanted)
    theirs = replace(version(6, wanted, CANDIDATE + "2"), description="")
    there = facts(endpoint=endpoint(deployed(wanted, now)), versions=(old, back, left, now, double, theirs))
    assert [one.number for one in known.orphans(wanted, there)] == ["3", "5"]


def test_versions_of_others_are_not_ours_whatever_their_labels_say():
    """Labels are shown merged with the model's, so another's version may show ours (UpdateModelRequest)."""
    wanted = target()
    theirs = Version(model="iris", number="1", labels=known.labels(wanted, facts()))
    assert known.wanted(wanted, facts(versions=(theirs,))) is None
    assert known.orphans(wanted, facts(versions=(theirs, replace(theirs, number="2")))) == []


def test_a_model_belongs_to_one_endpoint():
    wanted = target()
    other = replace(version(1, wanted, LIVE), description=f"cpr up: endpoint staging, key {'1' * 32}")
    with pytest.raises(DeployError, match="has versions for endpoint staging, and this is iris"):
        decide(wanted, facts(versions=(other,)))


def test_without_a_canary_the_checks_are_asked_first():
    wanted = target(checks=(CheckRequest(name="c", body=b"{}"),))
    new = replace(settled(wanted), digest="sha256:" + "cd" * 32)
    shares = [step.reason for step in decide(wanted, new).steps if step.action == "shift"]
    assert shares == ["5 % until it has answered the checks", "0 % -> 100 %"]


def test_of_two_equal_versions_the_oldest_is_meant():
    wanted = target()
    assert known.wanted(wanted, facts(versions=(version(3, wanted), version(5, wanted)))).number == "3"


def test_labels_fit_into_labels():
    found = known.labels(target(), facts(artifacts="1" * 64))
    assert set(found) == {OURS, IMAGE, ARTIFACTS}
    assert all(len(value) <= 63 for value in found.values())


@given(st.sampled_from(["etag", "lease", "replicas", "took"]))
def test_a_fingerprint_is_blind_to_what_changes_by_itself(what):
    wanted = target()
    there = settled(wanted)
    one = decide(wanted, there).fingerprint
    now = there.endpoint
    if what == "etag":
        there = replace(there, endpoint=replace(now, etag="x"))
    elif what == "lease":
        there = replace(there, endpoint=replace(now, labels={**now.labels, LABEL: "m-1-2"}))
    elif what == "replicas":
        there = replace(there, endpoint=replace(now, deployed=(replace(now.deployed[0], available_replicas=1),)))
    else:
        there = replace(there, last_took_s=5.0)
    assert decide(wanted, there).fingerprint == one


def test_a_fingerprint_sees_what_matters():
    wanted = target()
    there = settled(wanted)
    prints = {
        decide(wanted, there).fingerprint,
        decide(wanted, there, canary=5).fingerprint,
        decide(target(service_account="a@p.iam.gserviceaccount.com"), there).fingerprint,
        decide(wanted, replace(there, digest="sha256:" + "cd" * 32)).fingerprint,
        decide(wanted, replace(there, versions=())).fingerprint,
    }
    assert len(prints) == 5


def test_a_plan_goes_through_json():
    wanted = target()
    plan = decide(wanted, facts(), warnings=("w",))
    assert RegionPlan.from_json(plan.to_json()) == plan


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["n1-standard-2", "g2-standard-4"]))
def test_a_deployed_models_id_is_ten_digits(label, account, machine):
    one = Version(model="iris", number=str(abs(hash(label))), labels={})
    found = known.deployed_id(target(service_account=account, scale=Scale(machine_type=machine)), one)
    assert found.isdigit()
    assert len(found) == 10
