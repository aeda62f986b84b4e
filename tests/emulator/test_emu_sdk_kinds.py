"""Predictions through the real SDK on dedicated and private endpoints: their names, limits, time-outs, refusals."""

import asyncio
import contextlib
import functools
import json
import os

import aiohttp
import certifi
import pytest
import requests
from emu_data_plane import (
    HOST,
    JSON,
    KINDS,
    TAG,
    body_of,
    do,
    gate,  # noqa: F401
    prediction_client,
    session,  # noqa: F401
    url,
    vertex_plane,  # noqa: F401
)
from google.api import httpbody_pb2
from google.api_core import exceptions
from google.cloud import aiplatform
from google.cloud.aiplatform import gapic

from cpr_kit.emulator.predict import limits

LIMIT = 10_000_000
ADDRESS = "10.1.2.3"
ONE = '{"instances": [{"do": "show"}, 1], "parameters": {"k": 3}}'
pytestmark = pytest.mark.filterwarnings(
    "ignore::urllib3.exceptions.InsecureRequestWarning"
)  # PSC: the SDK's verify=False
both = pytest.mark.parametrize("transport", ["grpc", "rest"])


def to_psc(kind):
    return {"endpoint_override": ADDRESS} if kind == "psc" else {}


# What all of them share


@both
@pytest.mark.parametrize("kind", ["dedicated", "psa", "psc"])
def test_numbers_stay_as_they_are(vertex_plane, kind, transport):
    endpoint = vertex_plane.endpoint(kind, transport)
    answer = endpoint.predict(instances=[do("show"), 1], parameters={"k": 3}, **to_psc(kind))
    assert body_of(answer) == ONE
    answer = endpoint.predict(
        instances=[do("answer", text='{"predictions": [1, 2.0, 9007199254740993]}')], **to_psc(kind)
    )
    assert [repr(value) for value in answer.predictions] == ["1", "2.0", "9007199254740993"]
    assert answer.deployed_model_id == endpoint.list_models()[0].id
    # A peered network's answer is the container's own, which names nobody.
    assert answer.model_resource_name == (None if kind == "psa" else vertex_plane.model.resource_name)
    assert answer.model_version_id == (None if kind == "psa" else "1")


@pytest.mark.parametrize("kind", ["dedicated", "psa", "psc"])
def test_parameters_that_are_not_given(vertex_plane, kind):
    endpoint = vertex_plane.endpoint(kind)
    seen = json.loads(body_of(endpoint.predict(instances=[do("show")], **to_psc(kind))))
    assert seen.get("parameters", "left out") == (None if kind == "psa" else "left out")


@pytest.mark.parametrize("kind", ["dedicated", "psa", "psc"])
def test_raw_predict(vertex_plane, kind):
    endpoint = vertex_plane.endpoint(kind)
    answer = endpoint.raw_predict(
        body=b"\x00\xff\x01", headers={"Content-Type": "image/png", "X-Ask": "hi"}, **to_psc(kind)
    )
    content = answer.data if kind == "psa" else answer.content
    assert (content, answer.headers["content-type"], answer.headers["x-echo"]) == (b"\x01\xff\x00", "image/png", "hi")
    assert answer.headers.get("x-vertex-ai-endpoint-id") == (None if kind == "psa" else endpoint.name)


@pytest.mark.parametrize("kind", ["dedicated", "psa", "psc"])
def test_the_limits(vertex_plane, kind):
    endpoint, extra = vertex_plane.endpoint(kind), to_psc(kind)
    order = do("answer", text='{"predictions": [1]}', pad="x" * (LIMIT - 1000))
    assert endpoint.predict(instances=[order], **extra).predictions == [1]
    assert len(endpoint.predict(instances=[do("big", size=LIMIT - 1000)], **extra).predictions[0]) == LIMIT - 1000
    order["pad"] += "x" * 1000
    with pytest.raises((ValueError, RuntimeError), match=f"400.*Request payload size exceeds the limit: {LIMIT} bytes"):
        endpoint.predict(instances=[order], **extra)
    with pytest.raises((ValueError, RuntimeError), match="400.*Response payload size exceeds the limit"):
        endpoint.predict(instances=[do("big", size=LIMIT)], **extra)


@pytest.mark.parametrize("kind", ["public", "dedicated", "psa", "psc"])
def test_a_container_slower_than_the_limit(vertex_plane, kind, gate, monkeypatch):
    monkeypatch.setattr(limits, "TIMEOUT_S", 1.0)  # 60 s, fixed; the others have inference_timeout=1
    order = do("never", url=gate.url)
    endpoint, extra = vertex_plane.endpoint(kind, "rest"), to_psc(kind)
    words = "upstream request timeout"
    with pytest.raises((ValueError, RuntimeError, exceptions.GatewayTimeout), match=f"504.*{words}"):
        endpoint.predict(instances=[order], **extra)
    gate.wait()  # the container's request is ended too
    if kind != "psa":
        raw = endpoint.raw_predict(body=json.dumps(order), headers=JSON, **extra)
        assert (raw.status_code, raw.json()["error"]["status"]) == (504, "DEADLINE_EXCEEDED")
        gate.wait()
    if kind == "public":
        with pytest.raises(exceptions.DeadlineExceeded, match=words):
            vertex_plane.endpoint(kind, "grpc").predict(instances=[order])
        gate.wait()


@pytest.mark.parametrize("kind", ["dedicated", "psc"])
def test_a_stream_that_takes_longer_than_the_limit_is_cut(vertex_plane, kind, gate, caplog):
    endpoint = vertex_plane.endpoint(kind)
    lines = endpoint.stream_raw_predict(
        body=json.dumps(do("stream", url=gate.url, gone=True)), headers=JSON, **to_psc(kind)
    )
    assert next(lines) == b"one"
    vertex_plane.notes.clear()
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        next(lines)
    gate.wait()
    assert vertex_plane.notes == ["a stream was cut: upstream request timeout"]
    assert not any(record.exc_info for record in caplog.records)  # no traceback on anybody's terminal


@pytest.mark.parametrize("kind", ["dedicated", "psc"])
def test_chunks_arrive_while_the_container_still_writes(vertex_plane, kind, gate):
    endpoint = vertex_plane.new(**{**KINDS[kind], "inference_timeout": 600})
    with contextlib.closing(
        endpoint.stream_raw_predict(body=json.dumps(do("stream", url=gate.url)), headers=JSON, **to_psc(kind))
    ) as lines:
        assert next(lines) == b"one"
        gate.wait()
        gate.open()
        assert list(lines) == [b"two"]
    endpoint.undeploy_all()
    endpoint.delete()


@pytest.mark.parametrize(
    ("status", "text"),
    [(400, '{"error": "x"}'), (404, "none"), (422, "not so"), (429, "many"), (500, "oh no"), (503, "busy")],
)
@pytest.mark.parametrize("kind", ["dedicated", "psa", "psc"])
def test_a_container_s_error(vertex_plane, kind, status, text):
    endpoint, extra = vertex_plane.endpoint(kind), to_psc(kind)
    with pytest.raises(RuntimeError if kind == "psa" else ValueError) as caught:
        endpoint.predict(instances=[do("answer", status=status, text=text)], **extra)
    if kind == "psa":
        assert str(caught.value) == f"{status} - Failed to make request, see response: {text}"
    else:
        answer = str(caught.value).partition("response: ")[2].rstrip(".")
        assert f"Status code:{status}," in str(caught.value)
        assert json.loads(answer)["error"]["message"] == text


# Dedicated


def test_a_dedicated_endpoint_s_name(vertex_plane):
    endpoint = vertex_plane.endpoint("dedicated")
    number = endpoint.resource_name.split("/")[1]
    assert endpoint.dedicated_endpoint_dns == f"{endpoint.name}.us-central1-{number}.prediction.vertexai.goog"


def test_predict_async_on_a_dedicated_endpoint(vertex_plane, monkeypatch):
    """The SDK's aiohttp takes neither proxy nor roots from the environment, so it gets them here by hand."""
    endpoint = vertex_plane.endpoint("dedicated")
    monkeypatch.setattr(aiohttp, "ClientSession", functools.partial(aiohttp.ClientSession, trust_env=True))
    monkeypatch.setattr(certifi, "where", lambda: os.environ["SSL_CERT_FILE"])

    async def ask():
        good = await endpoint.predict_async(instances=[do("show"), 1], parameters={"k": 3})
        with pytest.raises(ValueError, match="Status code:503, response: .*busy"):
            await endpoint.predict_async(instances=[do("answer", status=503, text="busy")])
        return good

    good = asyncio.run(ask())
    assert body_of(good) == ONE
    assert good.model_version_id == "1"


def test_use_raw_predict_on_a_dedicated_endpoint(vertex_plane):
    answer = vertex_plane.endpoint("dedicated").predict(
        instances=[do("show"), 1], parameters={"k": 3}, use_raw_predict=True
    )
    assert body_of(answer) == ONE
    assert answer.model_resource_name == vertex_plane.model.resource_name


@pytest.mark.parametrize("verb", ["predict", "rawPredict", "streamRawPredict", "explain", "directPredict"])
@pytest.mark.parametrize("kind", ["dedicated", "psc"])
def test_the_shared_host_does_not_answer_for_it(vertex_plane, kind, verb, session):
    endpoint = vertex_plane.endpoint(kind)
    answer = session.post(url(endpoint, verb), json={"instances": [1]})
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "FAILED_PRECONDITION")
    name = "service attachment" if kind == "psc" else endpoint.dedicated_endpoint_dns
    assert name in answer.json()["error"]["message"]


@both
def test_a_client_of_the_shared_host_is_told_so(vertex_plane, transport):
    endpoint = vertex_plane.endpoint("dedicated", transport)
    kind = exceptions.FailedPrecondition if transport == "grpc" else exceptions.BadRequest
    client = prediction_client(transport)
    with pytest.raises(kind, match=endpoint.dedicated_endpoint_dns):
        client.predict(endpoint=endpoint.resource_name, instances=[1])
    with pytest.raises(kind, match=endpoint.dedicated_endpoint_dns):
        endpoint.explain(instances=[1])


def test_a_dedicated_endpoint_over_grpc(vertex_plane, gate):
    endpoint = vertex_plane.endpoint("dedicated")
    name = endpoint.dedicated_endpoint_dns
    client = gapic.PredictionServiceClient(client_options={"api_endpoint": name})
    me = [("x-vertex-ai-endpoint-id", endpoint.name)]
    answer = client.predict(endpoint=endpoint.resource_name, instances=[do("who")], metadata=me)
    assert answer.deployed_model_id == endpoint.list_models()[0].id
    body = httpbody_pb2.HttpBody(data=b"ab", content_type="text/plain")
    assert client.raw_predict({"endpoint": endpoint.resource_name, "http_body": body}, metadata=me).data == b"ba"
    stream = client.stream_raw_predict({"endpoint": endpoint.resource_name, "http_body": body}, metadata=me)
    assert [chunk.data for chunk in stream] == [b"ba"]
    with pytest.raises(exceptions.DeadlineExceeded, match="upstream request timeout"):
        client.predict(endpoint=endpoint.resource_name, instances=[do("never", url=gate.url)], metadata=me)
    gate.wait()
    with pytest.raises(exceptions.FailedPrecondition, match="explain is not supported"):
        client.explain(endpoint=endpoint.resource_name, instances=[1], metadata=me)
    for wrong in ([], [("x-vertex-ai-endpoint-id", "1")]):
        with pytest.raises(exceptions.FailedPrecondition, match=name):
            client.predict(endpoint=endpoint.resource_name, instances=[1], metadata=wrong)
        with pytest.raises(exceptions.FailedPrecondition, match=name):
            list(client.stream_raw_predict({"endpoint": endpoint.resource_name, "http_body": body}, metadata=wrong))


def test_another_endpoint_s_name(vertex_plane, session):
    shared, dedicated = vertex_plane.endpoint("public"), vertex_plane.endpoint("dedicated")
    there = url(shared, "predict", dedicated.dedicated_endpoint_dns)
    assert session.post(there, json={"instances": [do("who")]}).status_code == 404
    own = dedicated.dedicated_endpoint_dns.replace(dedicated.name, shared.name)
    assert session.post(url(shared, "predict", own), json={"instances": [do("who")]}).status_code == 404
    wrong = dedicated.dedicated_endpoint_dns.replace(dedicated.name, "1234")
    assert session.post(url(dedicated, "predict", wrong), json={"instances": [do("who")]}).status_code == 404
    private = f"{dedicated.name}-us-central1-x.prediction.p.vertexai.goog"
    assert session.post(url(dedicated, "predict", private), json={"instances": [do("who")]}).status_code == 400


def test_invoke(vertex_plane, session, gate):
    vertex_plane.use("grpc")
    model = aiplatform.Model.upload(
        display_name="invoked",
        serving_container_image_uri=TAG,
        serving_container_invoke_route_prefix="/*",
        serving_container_health_route="/health",
    )
    endpoint = vertex_plane.new(model, dedicated_endpoint_enabled=True, endpoint_id="invoker-1")
    body = json.dumps(do("show")).encode()
    answer = endpoint.invoke(request_path="/v1/chat/a%2Fb?x=1&y=%20", body=body, headers={**JSON, "X-Ask": "hi"})
    assert answer.json()["predictions"][0]["path"] == "/v1/chat/a%2Fb?x=1&y=%20"
    assert answer.json()["predictions"][0]["body"].encode() == body
    assert answer.headers["x-echo"] == "hi"
    deployed = endpoint.list_models()[0].id
    named = endpoint.invoke(request_path="/b", body=body, headers=JSON, deployed_model_id=deployed)
    assert (named.json()["predictions"][0]["path"], named.headers["x-vertex-ai-deployed-model-id"]) == ("/b", deployed)
    bad = endpoint.invoke(request_path="/b", body=json.dumps(do("answer", status=418, text="tea")), headers=JSON)
    assert (bad.status_code, bad.text) == (418, "tea")
    stream = json.dumps(do("stream", url=gate.url)).encode()
    lines = endpoint.invoke(request_path="/s", body=stream, headers=JSON, stream=True)
    assert next(lines) == b"one"
    gate.wait()
    gate.open()
    assert list(lines) == [b"two"]
    assert endpoint.invoke(request_path="/", body=body, headers=JSON).status_code == 400
    # "Every other predict verb is off."
    with pytest.raises(ValueError, match="Status code:400.*asked by invoke alone"):
        endpoint.predict(instances=[1])
    assert endpoint.raw_predict(body=body, headers=JSON).status_code == 400
    endpoint.delete(force=True)
    shared = aiplatform.Endpoint.create(display_name="shared")
    with pytest.raises(exceptions.FailedPrecondition, match="deploys to dedicated endpoints only"):
        model.deploy(endpoint=shared, machine_type="n1-standard-2")
    shared.delete()
    model.delete()


def test_invoke_needs_its_prefix(vertex_plane):
    endpoint = vertex_plane.endpoint("dedicated")
    answer = endpoint.invoke(request_path="/x", body=b"{}", headers=JSON)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "FAILED_PRECONDITION")
    assert "invokeRoutePrefix" in answer.json()["error"]["message"]


# Private Service Connect


def test_a_psc_endpoint_by_its_name(vertex_plane):
    endpoint = vertex_plane.endpoint("psc")
    name = f"{endpoint.name}-us-central1-my.prediction.p.vertexai.goog"
    answer = endpoint.predict(instances=[do("show"), 1], parameters={"k": 3}, endpoint_override=name)
    assert body_of(answer) == ONE
    plain = requests.post(
        f"http://{ADDRESS}/v1/{endpoint.resource_name}:predict", json={"instances": [do("who")]}, timeout=30
    )
    assert plain.json()["deployedModelId"] == endpoint.list_models()[0].id


def test_a_psc_endpoint_s_predict_async_goes_to_the_shared_host(vertex_plane):
    """A fault of the SDK's (python-aiplatform #3307), which the service does not make good."""
    endpoint = vertex_plane.endpoint("psc")
    with pytest.raises(exceptions.FailedPrecondition, match="Private Service Connect"):
        asyncio.run(endpoint.predict_async(instances=[do("who")]))


def test_a_psc_endpoint_has_no_health_check(vertex_plane):
    with pytest.raises(RuntimeError, match="not supported on PSC"):
        vertex_plane.endpoint("psc").health_check()


# Peered networks


def test_a_peered_endpoint_s_health(vertex_plane):
    vertex_plane.use("grpc")
    endpoint = aiplatform.PrivateEndpoint.create(display_name="p", **KINDS["psa"])
    with pytest.raises(RuntimeError, match="has not been deployed"):
        endpoint.health_check()
    vertex_plane.model.deploy(endpoint=endpoint, machine_type="n1-standard-2")
    assert endpoint.health_check()
    health = endpoint.health_http_uri
    assert requests.get(health, timeout=30).status_code == 200
    endpoint.undeploy(endpoint.list_models()[0].id)
    assert requests.get(health, timeout=30).status_code == 503
    endpoint.delete()


def test_a_peered_endpoint_at_its_own_name(vertex_plane):
    """As in the documents, over plain HTTP and with no token."""
    endpoint = vertex_plane.endpoint("psa")
    deployed = endpoint.list_models()[0].id
    there = f"http://{endpoint.name}.aiplatform.googleapis.com/v1/models/{deployed}"
    answer = requests.post(f"{there}:predict", json={"instances": [do("who")]}, timeout=30)
    assert answer.json().keys() == {"predictions"}
    assert answer.json()["predictions"][0]["id"] == deployed
    assert requests.get(there, timeout=30).status_code == 200
    assert requests.post(f"{there}1:predict", json={"instances": [1]}, timeout=30).status_code == 404


@both
def test_a_peered_endpoint_is_not_at_the_shared_host(vertex_plane, transport):
    endpoint = vertex_plane.endpoint("psa", transport)
    kind = exceptions.FailedPrecondition if transport == "grpc" else exceptions.BadRequest
    with pytest.raises(kind, match="predictHttpUri"):
        prediction_client(transport).predict(endpoint=endpoint.resource_name, instances=[1])


def test_a_peered_endpoint_has_one_model(vertex_plane):
    endpoint = vertex_plane.endpoint("psa")
    with pytest.raises(exceptions.FailedPrecondition, match="only one model"):
        vertex_plane.model.deploy(endpoint=endpoint, machine_type="n1-standard-2")


def test_a_shared_endpoint_is_asked_nowhere_else(vertex_plane, session):
    endpoint = vertex_plane.endpoint("public")
    assert session.post(url(endpoint, "predict", HOST), json={"instances": [do("who")]}).status_code == 200
    psc = f"{endpoint.name}-us-central1-my.prediction.p.vertexai.goog"
    assert session.post(url(endpoint, "predict", psc), json={"instances": [do("who")]}).status_code == 404
