"""Faults on demand as programs meet them, replicas that die, and the console's line of each call."""

import contextlib
import gc
import threading

import pytest
import requests
from emu_data_plane import (
    JSON,
    PROJECT,
    ROUTES,
    TAG,
    do,
    plane,
    prediction_client,
    session,  # noqa: F401
    url,
    vertex_plane,  # noqa: F401
)
from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.cloud import aiplatform, storage

from cpr_kit.emulator.app import Emulator
from cpr_kit.engine.choose import choose

both = pytest.mark.parametrize("transport", ["grpc", "rest"])


@pytest.fixture
def admin(vertex_plane):
    return f"{vertex_plane.emulator.url}/emulator/faults"


@pytest.fixture
def fault(admin):
    """Adds one; when the test ends there is none."""

    def add(text):
        answer = requests.post(admin, json=text, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    yield add
    requests.delete(admin, timeout=30)


@pytest.fixture
def lines(vertex_plane):
    """The console's lines since the test began."""
    vertex_plane.calls.clear()
    return vertex_plane.calls


# Predictions


@both
def test_latency(vertex_plane, fault, lines, transport):
    endpoint = vertex_plane.endpoint("public", transport)
    fault("predict:latency=300ms")
    endpoint.predict(instances=[do("who")])
    assert lines[-1].milliseconds >= 300
    assert (lines[-1].status, lines[-1].fault) == ("OK", "Predict:latency=300ms")


@both
def test_the_sdk_does_not_try_again_by_itself(vertex_plane, fault, lines, transport):
    endpoint = vertex_plane.endpoint("public", transport)
    fault("predict:status=503:count=2:message='try again'")
    for _ in range(2):
        with pytest.raises(exceptions.ServiceUnavailable, match="try again"):
            endpoint.predict(instances=[do("who")])
    endpoint.predict(instances=[do("who")])
    assert [line.status for line in lines if line.method == "Predict"] == ["UNAVAILABLE", "UNAVAILABLE", "OK"]


@both
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("503", exceptions.ServiceUnavailable),
        ("UNAVAILABLE", exceptions.ServiceUnavailable),
        ("429", exceptions.TooManyRequests),
        ("RESOURCE_EXHAUSTED", exceptions.TooManyRequests),
    ],
)
def test_a_program_s_own_retry(vertex_plane, fault, lines, transport, status, kind):
    endpoint = vertex_plane.endpoint("public", transport)
    fault(f"predict:status={status}:count=2")
    retry = Retry(predicate=if_exception_type(kind), initial=0.01, maximum=0.02)
    prediction_client(transport).predict(endpoint=endpoint.resource_name, instances=[do("who")], retry=retry)
    assert len([line for line in lines if line.method == "Predict"]) == 3


def test_retry_after(vertex_plane, fault, session):
    endpoint = vertex_plane.endpoint("public", "rest")
    fault("predict:status=429:retry_after=2s")
    answer = session.post(url(endpoint, "predict"), json={"instances": [1]})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


def test_faults_on_the_other_ways_to_predict(vertex_plane, fault):
    endpoint = vertex_plane.endpoint("public")
    fault("RawPredict:status=503")
    fault("StreamRawPredict:status=503")
    assert endpoint.raw_predict(body=b"{}", headers=JSON).status_code == 503
    assert b"UNAVAILABLE" in b"".join(endpoint.stream_raw_predict(body=b"{}", headers=JSON))
    endpoint.predict(instances=[do("who")])
    for kind in ("dedicated", "psa"):
        fault("predict:status=503:count=1")
        with pytest.raises((ValueError, RuntimeError), match="503"):
            vertex_plane.endpoint(kind).predict(instances=[do("who")])


# Operations


@both
def test_an_operation_that_fails(vertex_plane, fault, transport):
    vertex_plane.use(transport)
    endpoint = aiplatform.Endpoint.create(display_name="unlucky")
    fault("DeployModel:fail='no room':code=RESOURCE_EXHAUSTED:count=1")
    with pytest.raises(exceptions.TooManyRequests, match="no room"):
        vertex_plane.model.deploy(endpoint=endpoint, machine_type="n1-standard-2")
    assert not endpoint.list_models()
    assert not endpoint.traffic_split
    vertex_plane.model.deploy(endpoint=endpoint, machine_type="n1-standard-2")
    fault("UndeployModel:fail='not now':count=1")
    with pytest.raises(exceptions.GoogleAPICallError, match="not now"):
        endpoint.undeploy_all()
    with contextlib.suppress(exceptions.NotFound):
        endpoint.undeploy_all()
    endpoint.delete()


@both
def test_uploads_and_creations_that_fail(vertex_plane, fault, transport):
    vertex_plane.use(transport)
    fault("UploadModel:fail='bad image':count=1")
    fault("CreateEndpoint:fail='quota':count=1")
    with pytest.raises(exceptions.GoogleAPICallError, match="bad image"):
        aiplatform.Model.upload(display_name="failed", serving_container_image_uri=TAG, **ROUTES)
    with pytest.raises(exceptions.GoogleAPICallError, match="quota"):
        aiplatform.Endpoint.create(display_name="failed")
    assert not aiplatform.Model.list(filter='display_name="failed"')
    assert not aiplatform.Endpoint.list(filter='display_name="failed"')


# Replicas


def until_answered(endpoint):
    """A replica comes back; until then the SDK's user gets 503."""
    while True:
        try:
            return endpoint.predict(instances=[do("who")]).predictions[0]["pid"]
        except exceptions.ServiceUnavailable:
            pass


@both
def test_the_only_replica_dies(vertex_plane, fault, lines, transport):
    endpoint = vertex_plane.endpoint("public", transport)
    before = until_answered(endpoint)
    fault("replica:die:count=1")
    with pytest.raises(exceptions.ServiceUnavailable):
        endpoint.predict(instances=[do("who")])
    assert lines[-1].fault == "replica:die:count=1"
    assert until_answered(endpoint) != before


def test_a_replica_dies_once_and_not_where_there_is_none(vertex_plane, fault, admin, lines):
    endpoint = vertex_plane.endpoint("public")
    until_answered(endpoint)
    fault("replica:die")
    empty = aiplatform.Endpoint.create(display_name="empty")
    with pytest.raises(exceptions.GoogleAPICallError):
        empty.predict(instances=[do("who")])
    assert not lines[-1].fault
    assert requests.get(admin, timeout=30).json()["faults"][0]["struck"] == 0
    with pytest.raises(exceptions.ServiceUnavailable):
        endpoint.predict(instances=[do("who")])
    assert until_answered(endpoint)
    assert requests.get(admin, timeout=30).json()["faults"][0]["struck"] == 1
    empty.delete()


def test_a_request_kills_its_container(vertex_plane):
    endpoint = vertex_plane.endpoint("public")
    before = until_answered(endpoint)
    with pytest.raises(exceptions.ServiceUnavailable):
        endpoint.predict(instances=[do("die")])
    assert until_answered(endpoint) != before


def test_a_dying_replica_is_one_with_traffic(vertex_plane, fault):
    endpoint = vertex_plane.new()
    first = endpoint.list_models()[0].id
    vertex_plane.model.deploy(endpoint=endpoint, machine_type="n1-standard-2", traffic_percentage=100)
    assert endpoint.traffic_split.get(first, 0) == 0
    before = until_answered(endpoint)
    fault("replica:die:count=1")
    with pytest.raises(exceptions.ServiceUnavailable):
        endpoint.predict(instances=[do("who")])
    assert until_answered(endpoint) != before
    endpoint.delete(force=True)


def one_of_two_dies_under_load(plane, fault):
    plane.use("grpc")
    endpoint = aiplatform.Endpoint.create(display_name="two")
    plane.model.deploy(endpoint=endpoint, machine_type="n1-standard-2", min_replica_count=2, max_replica_count=2)
    client, clients = prediction_client("grpc"), 6
    name = endpoint.resource_name
    failures, replicas, renewed = [], set(), threading.Event()

    def ask():
        while not renewed.is_set():
            try:
                answer = client.predict(endpoint=name, instances=[do("who")])
            except exceptions.ServiceUnavailable as error:
                failures.append(error)
            else:
                replicas.add(answer.predictions[0]["born"])
                if len(replicas) == 3:  # both of the beginning, and the one that was started anew
                    renewed.set()

    fault("replica:die:after=60:count=1")
    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert renewed.is_set()
    # No more than the dead replica had in flight; each client has one at most.
    assert len(failures) <= clients
    endpoint.delete(force=True)


def test_of_two_replicas_one_dies_under_load(vertex_plane, fault):
    one_of_two_dies_under_load(vertex_plane, fault)


@pytest.mark.engine
def test_of_two_containers_one_dies_under_load(tmp_path):
    with plane(choose("docker").engine, tmp_path) as made:
        admin = f"{made.emulator.url}/emulator/faults"
        one_of_two_dies_under_load(made, lambda text: requests.post(admin, json=text, timeout=30))


# Storage


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the client leaves the sockets of refused downloads open
def test_the_storage_client_tries_again_by_itself(vertex_plane, fault, lines):
    client = storage.Client(project=PROJECT)
    bucket = client.create_bucket("faulty")
    blob = bucket.blob("a")
    fault("storage.objects.insert:status=503:count=2")
    blob.upload_from_string("text", if_generation_match=0)
    fault("storage.objects.get:status=503:count=2")
    assert blob.download_as_bytes() == b"text"
    fault("storage.objects.list:status=503:count=1")
    assert [each.name for each in client.list_blobs("faulty")] == ["a"]
    statuses = {line.method: [] for line in lines}
    for line in lines:
        statuses[line.method].append(line.status)
    assert statuses["storage.objects.insert"] == ["UNAVAILABLE", "UNAVAILABLE", "OK"]
    assert statuses["storage.objects.get"] == ["UNAVAILABLE", "UNAVAILABLE", "OK"]
    assert statuses["storage.objects.list"] == ["UNAVAILABLE", "OK"]
    fault("storage:status=403:count=1")
    with pytest.raises(exceptions.Forbidden):
        blob.reload()
    bucket.delete(force=True)
    client.close()
    gc.collect()


# The admin route


def test_faults_are_added_listed_and_removed(vertex_plane, admin, fault):
    endpoint = vertex_plane.endpoint("public")
    first = fault("predict:latency=1ms")
    second = fault({"call": "DeployModel", "fail": "no", "count": 3})
    endpoint.predict(instances=[do("who")])
    listed = requests.get(admin, timeout=30).json()["faults"]
    assert [(each["id"], each["calls"], each["struck"]) for each in listed] == [(first, 1, 1), (second, 0, 0)]
    assert [each["fault"] for each in listed] == [
        "Predict:latency=1ms",
        "DeployModel:fail=no:code=FAILED_PRECONDITION:count=3",
    ]
    assert requests.delete(f"{admin}/{first}", timeout=30).status_code == 200
    assert requests.delete(f"{admin}/{first}", timeout=30).status_code == 404
    assert [each["id"] for each in requests.get(admin, timeout=30).json()["faults"]] == [second]
    assert requests.delete(admin, timeout=30).status_code == 200
    assert requests.get(admin, timeout=30).json() == {"faults": []}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'"predikt:status=503"', "did you mean Predict"),
        (b'{"call": "predict"}', "what happens"),
        (b"[1]", "a text or an object"),
        (b"not JSON", "JSON"),
        (b"\xff", ""),
    ],
)
def test_a_fault_that_is_none(vertex_plane, admin, body, word):
    answer = requests.post(admin, data=body, headers=JSON, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert word in answer.json()["error"]["message"]
    assert requests.get(admin, timeout=30).json() == {"faults": []}


def test_faults_from_the_beginning():
    with Emulator(engine=choose("process").engine, faults=["ListModels:status=503:count=1"]) as emulator:
        models = f"{emulator.url}/v1/projects/p/locations/us-central1/models"
        assert [requests.get(models, timeout=30).status_code for _ in range(2)] == [503, 200]


# The console


def test_each_call_has_its_line(vertex_plane, lines):
    shared, dedicated, psa = (vertex_plane.endpoint(kind) for kind in ("public", "dedicated", "psa"))
    lines.clear()
    shared.predict(instances=[do("who")])
    bad = {"body": '{"do": "answer", "status": 422, "text": "no"}', "headers": JSON}
    shared.raw_predict(**bad)
    list(shared.stream_raw_predict(**bad))
    dedicated.invoke(request_path="/x", **bad)
    with pytest.raises(RuntimeError):
        psa.raw_predict(**bad)
    with pytest.raises(exceptions.NotFound):
        prediction_client("grpc").predict(endpoint=shared.resource_name + "0", instances=[1])
    with pytest.raises(exceptions.FailedPrecondition):
        shared.explain(instances=[1])
    found = [(line.protocol, line.method, line.resource.rpartition("/")[2], line.status) for line in lines]
    # The SDK gets an endpoint again when it pleases.
    assert [each for each in found if each[1] != "GetEndpoint"] == [
        ("gRPC", "Predict", shared.name, "OK"),
        ("REST", "RawPredict", shared.name, "422"),
        ("REST", "StreamRawPredict", shared.name, "422"),
        ("REST", "Invoke", dedicated.name, "FAILED_PRECONDITION"),
        ("REST", "Predict", psa.name, "422"),
        ("gRPC", "Predict", shared.name + "0", "NOT_FOUND"),
        ("gRPC", "Explain", shared.name, "FAILED_PRECONDITION"),
    ]
    assert "explanationSpec" in lines[-1].message
    assert all(line.milliseconds > 0 for line in lines)
