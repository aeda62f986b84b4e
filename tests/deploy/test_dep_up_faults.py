"""`up` while Vertex AI errs: refusals that pass, answers that are lost, operations that fail, credentials that end."""

import json
import urllib.request

import pytest
from dep_world import REGION, emulator, engine, project, target, target_of, vertex  # noqa: F401

from cpr_kit.deploy import apply
from cpr_kit.deploy.vertex import failures
from cpr_kit.deploy.vertex.calls import Patience
from cpr_kit.deploy.down import down
from cpr_kit.deploy.facts import LIVE
from cpr_kit.deploy.lease import LABEL
from cpr_kit.deploy.rollback import rollback
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import DeployError, LackingError

# Every remote call that `up`, `rollback` and `down` make.
CALLS = (
    "GetEndpoint", "ListEndpoints", "CreateEndpoint", "UpdateEndpoint", "DeleteEndpoint", "DeployModel",
    "UndeployModel", "MutateDeployedModel", "ListModelVersions", "UploadModel", "MergeVersionAliases", "DeleteModel",
    "DeleteModelVersion", "GetOperation", "ListOperations",
)  # fmt: skip
FAILURES = {
    "Model server exited unexpectedly. Model server logs can be found at https://console": "ended before it was ready",
    "Model server terminated: model server container terminated: exit_code 3": "the container's program ended by itself",
    "model server container out of memory": "more memory than its machine has",
    "model server never became ready. Please validate that your model file or container configuration are valid.": (
        "the health route did not answer 200 in time"
    ),
}


class Faults:
    """The emulator's faults on demand, over its own address."""

    def __init__(self, url):
        self.url = f"{url}/emulator/faults"

    def __call__(self, **value):
        self.send("POST", value)

    def clear(self):
        self.send("DELETE")

    def send(self, method, value=None):
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"}, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            answer.read()


@pytest.fixture
def fault(emulator):  # noqa: F811
    faults = Faults(emulator.url)
    yield faults
    faults.clear()


def whole_life(engine, vertex, project):  # noqa: F811
    """Everything that makes a remote call; nothing is left at its end."""
    one, two = target_of(project, "one"), target_of(project, "two")
    apply.up(one, engine, vertex)
    assert not apply.up(one, engine, vertex).changed
    apply.up(two, engine, vertex)
    rollback(two, vertex)
    (endpoint,) = vertex.endpoints()
    assert [(each.number, each.traffic) for each in endpoint.deployed] == [("1", 100)]
    assert [each.number for each in vertex.versions("iris") if LIVE in each.aliases] == ["1"]
    assert len(vertex.versions("iris")) == 2
    assert LABEL not in endpoint.labels
    down(two, vertex)
    assert (vertex.endpoints(), vertex.versions("iris")) == ([], [])


@pytest.mark.parametrize("status", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_refusals_that_pass(engine, vertex, project, fault, status):  # noqa: F811
    """The first calls of each kind are refused: 429, and 503 (UNAVAILABLE over gRPC)."""
    for call in CALLS:
        fault(call=call, status=status, count=2)
    whole_life(engine, vertex, project)


def test_answers_that_are_lost(engine, vertex, project, fault):  # noqa: F811
    """The call has taken effect; who repeats it must not do it twice."""
    for call in CALLS:
        if call not in ("GetOperation", "ListOperations"):
            fault(call=call, lost=True, count=1)
    whole_life(engine, vertex, project)


@pytest.mark.heavy
@pytest.mark.parametrize("call", [call for call in CALLS if call not in ("MutateDeployedModel", "DeleteModelVersion")])
def test_a_call_that_is_refused_for_long_is_finished_by_the_next_run(engine, vertex, project, fault, call):  # noqa: F811
    impatient = Vertex(project, REGION, patience=Patience(total_s=0.3, first_s=0.05, poll_s=0.02))
    fault(call=call, status="UNAVAILABLE")
    one, two = target_of(project, "one"), target_of(project, "two")
    for act in (
        lambda: apply.up(one, engine, impatient),
        lambda: apply.up(two, engine, impatient),
        lambda: rollback(two, impatient),
        lambda: down(two, impatient),
    ):
        try:
            act()
        except DeployError as error:
            assert "UNAVAILABLE" in str(error) or "there is no endpoint" in str(error) or "no version" in str(error)
            assert error.exit_code == (4 if "UNAVAILABLE" in str(error) else 1)
    fault.clear()
    whole_life(engine, vertex, project)


@pytest.mark.parametrize("text", FAILURES)
def test_a_failure_text_is_explained(text):
    error = failures.failed("deploy iris@1 to iris", text)
    assert text in str(error)
    assert FAILURES[text] in str(error)
    assert error.remedy


def test_a_deployment_that_fails(engine, vertex, target, project, fault):  # noqa: F811
    text = "model server container out of memory"
    fault(call="DeployModel", fail=text, count=1)
    with pytest.raises(DeployError) as caught:
        apply.up(target, engine, vertex)
    assert text in str(caught.value)
    assert FAILURES[text] in str(caught.value)
    assert (vertex.endpoints(), vertex.versions("iris")) == ([], [])
    whole_life(engine, vertex, project)


@pytest.mark.parametrize("call", ["UploadModel", "CreateEndpoint", "UndeployModel", "DeleteEndpoint", "DeleteModel"])
def test_another_operation_that_fails(engine, vertex, project, fault, call):  # noqa: F811
    """Whatever run it was, the next one finishes."""
    fault(call=call, fail="INTERNAL: something broke", count=1)
    one, two = target_of(project, "one"), target_of(project, "two")
    failed = 0
    for act in (
        lambda: apply.up(one, engine, vertex),
        lambda: apply.up(two, engine, vertex),
        lambda: down(two, vertex),
    ):
        try:
            act()
        except DeployError as error:
            assert "something broke" in str(error)
            failed += 1
    assert failed == 1
    whole_life(engine, vertex, project)


def test_credentials_that_end_midway_are_renewed(engine, vertex, project, fault):  # noqa: F811
    for call in ("UploadModel", "DeployModel", "UpdateEndpoint"):
        fault(call=call, status="UNAUTHENTICATED", count=1)
    whole_life(engine, vertex, project)


def test_credentials_that_have_ended(engine, vertex, target, project, fault):  # noqa: F811
    fault(call="DeployModel", status="UNAUTHENTICATED", count=2)
    with pytest.raises(LackingError, match=r"gcloud auth application-default login.*goes on where it stopped"):
        apply.up(target, engine, vertex)
    whole_life(engine, vertex, project)


def test_a_permission_that_lacks_is_named(engine, vertex, target, fault):  # noqa: F811
    fault(call="UploadModel", status="PERMISSION_DENIED", count=1)
    with pytest.raises(DeployError, match=r"cpr iam plan") as caught:
        apply.up(target, engine, vertex)
    assert "upload a version of iris" in str(caught.value)
    assert (vertex.endpoints(), vertex.versions("iris")) == ([], [])
