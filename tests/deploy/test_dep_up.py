"""`up`, `rollback` and `down` against the emulator: containers of the process engine, the real client."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from google.cloud import storage
from dep_world import CHECK, REGION, RULES, emulator, engine, image, project, target, target_of, vertex  # noqa: F401

from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy import apply
from cpr_kit.deploy.predict.asking import Asker
from cpr_kit.deploy.down import down, plan_down
from cpr_kit.deploy.facts import LIVE, PREVIOUS
from cpr_kit.deploy.lease import LABEL
from cpr_kit.deploy.rollback import rollback
from cpr_kit.deploy.target import OURS, Scale
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import DeployError, LackingError, RolledBack


class Watched(Vertex):
    """Keeps every traffic split that was set."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.splits = []

    def set_traffic(self, endpoint, split):
        self.splits.append(dict(split))
        return super().set_traffic(endpoint, split)


@pytest.fixture
def watched(vertex):  # noqa: F811
    return Watched(vertex.project, REGION, patience=vertex._call.patience)


def aliases(vertex):  # noqa: F811
    return {each.number: set(each.aliases) - {"default"} for each in vertex.versions("iris")}


def serving(vertex):  # noqa: F811
    (endpoint,) = vertex.endpoints()
    return {each.number: each.traffic for each in endpoint.deployed}


def test_from_nothing_to_nothing(engine, vertex, target, project):  # noqa: F811
    planned = apply.plan(target, engine, vertex)
    assert [step.action for step in planned.steps if step.action != "keep"] == ["create", "upload", "deploy", "shift"]
    made = apply.up(target, engine, vertex, planned=planned)
    assert (made.changed, made.version) == (True, "iris@1")
    (endpoint,) = vertex.endpoints()
    assert (endpoint.id, endpoint.labels) == ("iris", {OURS: "iris"})
    again = apply.up(target, engine, vertex)
    assert (again.changed, again.version, again.endpoint) == (False, "iris@1", endpoint.name)
    assert not apply.plan(target, engine, vertex).changes

    two = target_of(project, "two")
    apply.up(two, engine, vertex)
    assert serving(vertex) == {"2": 100}
    assert aliases(vertex) == {"1": {PREVIOUS}, "2": {LIVE}}

    back = rollback(two, vertex)
    assert back.version == "iris@1"
    assert serving(vertex) == {"1": 100}
    assert aliases(vertex) == {"1": {LIVE}, "2": {PREVIOUS}}
    rollback(two, vertex)
    assert aliases(vertex) == {"1": {PREVIOUS}, "2": {LIVE}}

    gone = plan_down(two, vertex)
    assert [(step.action, step.name) for step in gone.steps] == [
        ("undeploy", "iris@2"), ("delete", "iris@1"), ("delete", "iris@2"), ("delete", "iris"),
    ]  # fmt: skip
    assert down(two, vertex).changed
    assert vertex.endpoints() == []
    assert vertex.versions("iris") == []
    assert not down(two, vertex).changed
    assert not plan_down(two, vertex).changes


def test_the_image_is_uploaded_by_its_digest(engine, vertex, target):  # noqa: F811
    apply.up(target, engine, vertex)
    (version,) = vertex.versions("iris")
    assert version.image_uri == f"{image('one').rpartition(':')[0]}@{engine.image(image('one')).id}"


def test_a_share_of_the_calls(engine, vertex, target, project):  # noqa: F811
    """20 % of 1,000 calls within three standard deviations."""
    apply.up(target, engine, vertex)
    apply.up(target_of(project, "two", keep_previous=True), engine, vertex)
    (endpoint,) = vertex.endpoints()
    old, new = (next(each.id for each in endpoint.deployed if each.number == number) for number in "12")
    vertex.set_traffic(endpoint, {old: 80, new: 20})
    asker = Asker(endpoint, project, REGION)
    with ThreadPoolExecutor(8) as pool:
        seen = Counter(pool.map(lambda _: asker.predict(CHECK.body, CHECK.content_type).deployed_model, range(1000)))
    assert set(seen) == {old, new}
    assert abs(seen[new] - 200) < 3 * (1000 * 0.2 * 0.8) ** 0.5


def test_a_good_canary_is_promoted(engine, watched, target, project):  # noqa: F811
    apply.up(target, engine, watched)
    watched.splits.clear()
    two = apply.up(target_of(project, "two"), engine, watched, canary_share=20)
    (old, new) = watched.splits[0]
    assert watched.splits == [{old: 80, new: 20}, {new: 100}]
    assert serving(watched) == {"2": 100}
    assert any("20 % of the traffic to iris@2" in line for line in two.lines)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("wrong", "expected"), ("slow", "ratio"), ("failing", "500"), ("crashing", "wrong")],
)
def test_a_bad_canary_is_rolled_back(engine, watched, target, project, kind, reason):  # noqa: F811
    apply.up(target, engine, watched)
    before = aliases(watched)
    watched.splits.clear()
    with pytest.raises(RolledBack, match=reason) as caught:
        strict = replace(RULES, latency_slack_ms=200.0)
        apply.up(target_of(project, kind, canary=strict), engine, watched, canary_share=20)
    assert caught.value.exit_code == 1
    (stable,) = watched.endpoints()[0].traffic
    assert all(split.get(stable, 0) >= 80 for split in watched.splits), watched.splits
    assert watched.splits[-1] == {stable: 100}
    assert serving(watched) == {"1": 100}
    assert aliases(watched) == before
    assert LABEL not in watched.endpoints()[0].labels
    assert not apply.up(target, engine, watched).changed


def test_a_wrong_version_without_a_canary_is_rolled_back_too(engine, vertex, target, project):  # noqa: F811
    apply.up(target, engine, vertex)
    with pytest.raises(RolledBack, match="expected 3"):
        apply.up(target_of(project, "wrong"), engine, vertex)
    assert serving(vertex) == {"1": 100}
    assert aliases(vertex) == {"1": {LIVE}}


def test_a_first_version_that_does_not_start_leaves_nothing(engine, vertex, project):  # noqa: F811
    with pytest.raises(DeployError) as caught:
        apply.up(target_of(project, "broken"), engine, vertex)
    text = str(caught.value)
    assert "model.joblib is not there" in text  # the container's log
    assert "likely: the container" in text
    assert "cpr run" in caught.value.remedy
    assert vertex.endpoints() == []
    assert vertex.versions("iris") == []


def test_a_next_version_that_does_not_start_leaves_the_first(engine, vertex, target, project):  # noqa: F811
    apply.up(target, engine, vertex)
    with pytest.raises(DeployError, match="deploy iris@2"):
        apply.up(target_of(project, "broken"), engine, vertex)
    assert serving(vertex) == {"1": 100}
    assert aliases(vertex) == {"1": {LIVE}}


def test_a_kept_version_takes_over_without_a_deployment(engine, vertex, target, project):  # noqa: F811
    apply.up(target, engine, vertex)
    two = target_of(project, "two", keep_previous=True)
    apply.up(two, engine, vertex)
    assert serving(vertex) == {"1": 0, "2": 100}
    assert not apply.up(two, engine, vertex).changed
    lines = []
    rollback(two, vertex, report=lines.append)
    assert serving(vertex) == {"1": 100, "2": 0}
    assert not any("deploy" in line for line in lines)


def test_nothing_to_roll_back_to(engine, vertex, target):  # noqa: F811
    with pytest.raises(DeployError, match="there is no endpoint iris"):
        rollback(target, vertex)
    apply.up(target, engine, vertex)
    with pytest.raises(DeployError, match="no version before the live one"):
        rollback(target, vertex)
    assert serving(vertex) == {"1": 100}
    assert LABEL not in vertex.endpoints()[0].labels


def test_replicas_are_changed_in_place(engine, vertex, target):  # noqa: F811
    apply.up(target, engine, vertex)
    (before,) = vertex.endpoints()[0].deployed
    more = replace(target, scale=Scale(min_replicas=1, max_replicas=2))
    assert apply.up(more, engine, vertex).changed
    (now,) = vertex.endpoints()[0].deployed
    assert (now.id, now.scale.max_replicas) == (before.id, 2)
    assert not apply.up(more, engine, vertex).changed


def test_another_machine_is_another_deployed_model_of_the_same_version(engine, vertex, target):  # noqa: F811
    apply.up(target, engine, vertex)
    (before,) = vertex.endpoints()[0].deployed
    apply.up(replace(target, scale=Scale(machine_type="n1-standard-4")), engine, vertex)
    (now,) = vertex.endpoints()[0].deployed
    assert (now.number, now.scale.machine_type) == (before.number, "n1-standard-4")
    assert now.id != before.id
    assert aliases(vertex) == {"1": {LIVE}}


def test_an_endpoint_of_others_is_used_and_stays(engine, vertex, target):  # noqa: F811
    vertex.create_endpoint(target, {"team": "other"})
    apply.up(target, engine, vertex)
    down(target, vertex)
    (endpoint,) = vertex.endpoints()
    assert endpoint.deployed == ()
    assert endpoint.labels == {"team": "other"}
    assert vertex.versions("iris") == []


def test_a_version_of_others_stays(engine, vertex, target):  # noqa: F811
    vertex.upload(target, target.spec, None, {"team": "other"}, mark="by hand", alias="theirs")
    apply.up(target, engine, vertex)
    assert serving(vertex) == {"2": 100}
    down(target, vertex)
    assert [each.number for each in vertex.versions("iris")] == ["1"]


def test_a_plan_that_is_out_of_date_is_refused(engine, vertex, target, project):  # noqa: F811
    planned = apply.plan(target, engine, vertex)
    apply.up(target, engine, vertex)
    with pytest.raises(DeployError, match="no longer what the plan was made for"):
        apply.up(target, engine, vertex, planned=planned)
    with pytest.raises(DeployError, match="no longer what the plan was made for"):
        apply.up(target_of(project, "two"), engine, vertex, planned=planned)


def test_an_image_that_is_nowhere(engine, vertex, target):  # noqa: F811
    name = image("nowhere")
    absent = replace(target, image=name, spec=ContainerSpec.kit(name))
    with pytest.raises(LackingError, match=r"serving/iris:nowhere.*cpr build"):
        apply.up(absent, engine, vertex)
    assert vertex.endpoints() == []


@pytest.mark.parametrize("kind", ["dedicated", "psc", "psa"])
def test_every_kind_of_endpoint(engine, vertex, target, project, kind):  # noqa: F811
    fields = {
        "dedicated": {"inference_timeout_s": 120},
        "psc": {"project_allowlist": (project,)},
        "psa": {"network": "projects/123456789012/global/networks/default"},
    }[kind]
    wanted = replace(target, kind=kind, **fields)
    made = apply.up(wanted, engine, vertex)
    (endpoint,) = vertex.endpoints()
    assert endpoint.kind == kind
    assert serving(vertex) == {"1": 100}
    assert any("was not asked" in line for line in made.lines) == (kind in ("psc", "psa"))
    assert not apply.up(wanted, engine, vertex).changed
    down(wanted, vertex)
    assert vertex.endpoints() == []


def both(*acts):
    """What each of some acts that run at once came to: its value, or its error."""
    found = [None] * len(acts)

    def run(place, act):
        try:
            found[place] = act()
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=run, args=(place, act)) for place, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("kinds", [("one", "one"), ("one", "two")])
@pytest.mark.parametrize("there", [False, True])
def test_two_at_once(engine, vertex, project, kinds, there):  # noqa: F811
    """One of them does its work; the other one does it too, afterwards, or is told to wait. Nothing is left over."""
    if there:
        apply.up(target_of(project, "slow", checks=()), engine, vertex)
    first, second = (target_of(project, kind) for kind in kinds)
    other = Vertex(project, REGION, patience=vertex._call.patience)
    found = both(lambda: apply.up(first, engine, vertex), lambda: apply.up(second, engine, other))
    failed = [each for each in found if isinstance(each, Exception)]
    assert len(failed) <= 1, failed
    assert all("another cpr is at work" in str(each) for each in failed), list(map(str, failed))
    apply.up(second, engine, vertex)
    assert list(serving(vertex).values()) == [100]
    assert sum(LIVE in names for names in aliases(vertex).values()) == 1
    assert LABEL not in vertex.endpoints()[0].labels
    assert len(vertex.versions("iris")) <= len(set(kinds)) + there
    down(second, vertex)
    assert (vertex.endpoints(), vertex.versions("iris")) == ([], [])


def test_a_lease_that_was_left_can_be_taken(engine, vertex, target):  # noqa: F811
    apply.up(target, engine, vertex)
    (endpoint,) = vertex.endpoints()
    vertex.update_endpoint(endpoint, {"labels": {**endpoint.labels, LABEL: "elsewhere-1-9999999999-0"}})
    with pytest.raises(DeployError, match="process 1 of another machine; its lease ends at .* | .*--take-lease"):
        down(target, vertex)
    down(target, vertex, take_lease=True)
    assert vertex.endpoints() == []


@pytest.fixture
def artifacts(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    return tmp_path / "model"


def test_artifacts_of_this_machine_are_staged_and_leave_no_trace(engine, vertex, target, project, artifacts):  # noqa: F811
    client = storage.Client(project=project)
    bucket = client.create_bucket(f"{project}-staging", location=REGION)
    wanted = replace(target, artifacts=str(artifacts), staging=f"gs://{bucket.name}/models")
    apply.up(wanted, engine, vertex)
    (version,) = vertex.versions("iris")
    assert list(bucket.list_blobs()) == []
    assert not apply.up(wanted, engine, vertex).changed
    (artifacts / "weights").write_text("2")
    planned = apply.plan(wanted, engine, vertex)
    assert next(step.reason for step in planned.steps if step.action == "upload") == "other artifacts than iris@1"
    apply.up(wanted, engine, vertex)
    assert serving(vertex) == {"2": 100}
    down(wanted, vertex)
    assert list(bucket.list_blobs()) == []


def test_a_bucket_that_lacks_is_told_before_anything_is_made(engine, vertex, target, artifacts):  # noqa: F811
    wanted = replace(target, artifacts=str(artifacts), staging="gs://dep-tests-nowhere/models")
    with pytest.raises(DeployError, match=r"buckets create gs://dep-tests-nowhere --location=us-central1"):
        apply.plan(wanted, engine, vertex)
    with pytest.raises(DeployError, match="no bucket"):
        apply.up(wanted, engine, vertex)
    assert vertex.endpoints() == []
