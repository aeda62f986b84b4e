"""Predictions through the real SDK on shared endpoints: values, limits, errors, raw and streamed answers."""

import asyncio
import itertools
import json
import threading

import pytest
import requests
from emu_data_plane import (
    HOST,
    JSON,
    LOCATION,
    PROJECT,
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
from google.cloud import aiplatform, aiplatform_v1beta1
from google.cloud.aiplatform import gapic
from google.cloud.aiplatform_v1.types import Tensor
from google.protobuf import struct_pb2

LIMIT = 1_500_000
both = pytest.mark.parametrize("transport", ["grpc", "rest"])


@pytest.fixture
def endpoint(vertex_plane, transport):
    return vertex_plane.endpoint("public", transport)


# predict


@both
def test_predict_says_who_answered(vertex_plane, endpoint):
    answer = endpoint.predict(instances=[do("who")])
    deployed = endpoint.list_models()[0]
    assert answer.deployed_model_id == deployed.id == answer.predictions[0]["id"]
    assert answer.model_resource_name == vertex_plane.model.resource_name
    assert answer.model_version_id == "1"
    assert answer.metadata is None


@both
def test_shared_predict_turns_ints_into_floats_both_ways(endpoint):
    answer = endpoint.predict(
        instances=[do("show"), 1, [2, True, None, "x"], {"n": 2**53 + 1}], parameters={"k": 3}, timeout=30
    )
    sent = body_of(answer)
    assert sent == (
        '{"instances":[{"do":"show"},1.0,[2.0,true,null,"x"],{"n":9007199254740992.0}],"parameters":{"k":3.0}}'
    )
    answer = endpoint.predict(instances=[do("answer", text='{"predictions": [1, [2], {"a": 3}, true]}')])
    assert [repr(value) for value in answer.predictions] == ["1.0", "[2.0]", "{'a': 3.0}", "True"]


def test_so_it_does_for_those_who_write_their_own_json(vertex_plane, session):
    endpoint = vertex_plane.endpoint("public", "rest")
    body = b'{"instances": [{"do": "show"}, 1, 9007199254740993], "parameters": {"k": 3}}'
    seen = session.post(url(endpoint, "predict"), data=body, headers=JSON).json()["predictions"][0]["body"]
    assert seen == '{"instances":[{"do":"show"},1.0,9007199254740992.0],"parameters":{"k":3.0}}'
    order = do("answer", text='{"predictions": [1, 9007199254740993]}')
    answer = session.post(url(endpoint, "predict"), json={"instances": [order]})
    assert '"predictions":[1.0,9007199254740992.0]' in answer.text


@both
def test_parameters_are_left_out_when_there_are_none(endpoint):
    assert "parameters" not in json.loads(body_of(endpoint.predict(instances=[do("show")])))


@both
def test_a_container_s_metadata_passes_and_its_other_keys_do_not(endpoint):
    text = '{"predictions": [1], "metadata": {"a": [1]}, "extra": 5}'
    assert endpoint.predict(instances=[do("answer", text=text)]).metadata == {"a": [1.0]}


@pytest.mark.parametrize("transport", ["grpc"])
def test_predict_async(endpoint):
    async def ask():
        first = await endpoint.predict_async(instances=[do("show")], parameters={"k": 1}, timeout=30)
        with pytest.raises(exceptions.FailedPrecondition, match="not so"):
            await endpoint.predict_async(instances=[do("answer", text="not so", status=400)])
        return first, await asyncio.gather(*(endpoint.predict_async(instances=[do("who")]) for _ in range(20)))

    first, many = asyncio.run(ask())
    assert json.loads(body_of(first))["parameters"] == {"k": 1.0}
    assert {answer.deployed_model_id for answer in many} == {first.deployed_model_id}


@both
def test_the_caller_s_timeout_ends_the_container_s_request(endpoint, gate):
    with pytest.raises((exceptions.DeadlineExceeded, requests.exceptions.Timeout, exceptions.RetryError)):
        endpoint.predict(instances=[do("never", url=gate.url)], timeout=0.5)
    gate.wait()  # the container saw its caller leave


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have(vertex_plane, session, number):
    endpoint = vertex_plane.endpoint("public")
    value = struct_pb2.Value(number_value=number)
    with pytest.raises(exceptions.InvalidArgument, match="no number of JSON"):
        prediction_client("grpc").predict(endpoint=endpoint.resource_name, instances=[value])
    bad = session.post(url(endpoint, "predict"), data=json.dumps({"instances": [number]}), headers=JSON)
    assert (bad.status_code, bad.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


@both
def test_no_instances(endpoint):
    with pytest.raises(exceptions.BadRequest, match="Empty instances"):
        endpoint.predict(instances=[])


@both
def test_an_endpoint_that_is_not_there(endpoint, transport):
    client = prediction_client(transport)
    with pytest.raises(exceptions.NotFound, match="endpoints/404 does not exist"):
        client.predict(endpoint=f"projects/{PROJECT}/locations/{LOCATION}/endpoints/404", instances=[1])


@both
def test_an_endpoint_without_a_model(vertex_plane, transport):
    vertex_plane.use(transport)
    empty = aiplatform.Endpoint.create(display_name="empty")
    kind = exceptions.FailedPrecondition if transport == "grpc" else exceptions.BadRequest
    with pytest.raises(kind, match="doesn't have a deployed model"):
        empty.predict(instances=[1])
    empty.delete()


@both
def test_the_beta_client_predicts_too(endpoint, transport):
    client = aiplatform_v1beta1.PredictionServiceClient(transport=transport, client_options={"api_endpoint": HOST})
    answer = client.predict(endpoint=endpoint.resource_name, instances=[do("who")])
    assert answer.deployed_model_id == endpoint.list_models()[0].id


# Limits


def padded(size):
    """A REST body of so many bytes."""
    text = '{"instances": [{"do": "answer", "text": "{\\"predictions\\": [1]}", "pad": "%s"}]}'
    return (text % ("x" * (size - len(text % "")))).encode()


@pytest.mark.parametrize("transport", ["rest"])
def test_the_limit_of_a_request_over_rest_to_the_byte(endpoint, session):
    good = session.post(url(endpoint, "predict"), data=padded(LIMIT), headers=JSON)
    assert (good.status_code, len(good.request.body)) == (200, LIMIT)
    bad = session.post(url(endpoint, "predict"), data=padded(LIMIT + 1), headers=JSON)
    assert bad.status_code == 400
    assert bad.json()["error"]["message"] == f"Request payload size exceeds the limit: {LIMIT} bytes."
    assert bad.json()["error"]["status"] == "INVALID_ARGUMENT"
    pieces = session.post(url(endpoint, "predict"), data=iter([padded(LIMIT), b" "]), headers=JSON)
    assert pieces.status_code == 400
    raw = session.post(url(endpoint, "rawPredict"), data=padded(LIMIT + 1), headers=JSON)
    assert raw.status_code == 400


@both
def test_the_limits_through_the_sdk(endpoint, transport):
    kind = exceptions.InvalidArgument if transport == "grpc" else exceptions.BadRequest
    ok = do("answer", text='{"predictions": [1]}', pad="x" * (LIMIT - 1000))
    assert endpoint.predict(instances=[ok]).predictions == [1.0]
    ok["pad"] += "x" * 1000
    with pytest.raises(kind, match="Request payload"):
        endpoint.predict(instances=[ok])
    assert len(endpoint.predict(instances=[do("big", size=LIMIT - 1000)]).predictions[0]) == LIMIT - 1000
    with pytest.raises(kind, match="Response payload"):
        endpoint.predict(instances=[do("big", size=LIMIT)])
    raw = endpoint.raw_predict(body=json.dumps(do("big", size=LIMIT)), headers=JSON)
    assert (raw.status_code, raw.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


# A container that errs (contract.md 1.7)

ERRORS = [
    (do("answer", status=400, text='{"error": "x"}'), exceptions.BadRequest, exceptions.FailedPrecondition),
    (do("answer", status=404, text="nothing here"), exceptions.NotFound, exceptions.NotFound),
    (do("answer", status=422, text="not so"), exceptions.GoogleAPICallError, exceptions.InvalidArgument),
    (do("answer", status=429, text="too many"), exceptions.TooManyRequests, exceptions.ResourceExhausted),
    (do("answer", status=500, text="oh no"), exceptions.InternalServerError, exceptions.InternalServerError),
    (do("answer", status=503, text="busy"), exceptions.ServiceUnavailable, exceptions.ServiceUnavailable),
    (do("answer", text='{"predictions": [NaN]}'), exceptions.InternalServerError, exceptions.InternalServerError),
    (do("answer", text="<html>"), exceptions.InternalServerError, exceptions.InternalServerError),
    (do("answer", text='{"outputs": [1]}'), exceptions.InternalServerError, exceptions.InternalServerError),
    (do("answer", text='{"predictions": {"a": 1}}'), exceptions.InternalServerError, exceptions.InternalServerError),
    (do("reset"), exceptions.ServiceUnavailable, exceptions.ServiceUnavailable),
    (do("hangup"), exceptions.ServiceUnavailable, exceptions.ServiceUnavailable),
]


@both
@pytest.mark.parametrize(("order", "over_rest", "over_grpc"), ERRORS, ids=[str(e[0])[7:40] for e in ERRORS])
def test_a_container_s_error_has_its_class_and_its_words(endpoint, transport, order, over_rest, over_grpc):
    with pytest.raises(exceptions.GoogleAPICallError) as caught:
        endpoint.predict(instances=[order])
    assert type(caught.value) is (over_grpc if transport == "grpc" else over_rest)
    words = order.get("text", "upstream connect error or disconnect/reset before headers")
    assert words in caught.value.message
    if order.get("status"):
        assert caught.value.message.endswith(words)
        if transport == "rest":
            assert caught.value.code == order["status"]
    endpoint.predict(instances=[do("who")])


def test_the_json_form_of_a_container_s_400(vertex_plane, session):
    endpoint = vertex_plane.endpoint("public", "rest")
    order = do("answer", status=400, text='{"error": "x"}')
    answer = session.post(url(endpoint, "predict"), json={"instances": [order]})
    expected = {"code": 400, "message": '{"error": "x"}', "status": "FAILED_PRECONDITION"}
    assert (answer.status_code, answer.json()) == (400, {"error": expected})


# rawPredict and streamRawPredict


@both
def test_raw_predict(vertex_plane, endpoint):
    body = b'{"do": "show", "instances": [1]}'
    answer = endpoint.raw_predict(body=body, headers={**JSON, "X-Ask": "hello", "x-request-id": "r1"})
    seen = answer.json()["predictions"][0]
    assert seen["body"].encode() == body
    assert (seen["headers"]["x-ask"], seen["headers"]["x-request-id"]) == ("hello", "r1")
    assert "authorization" not in seen["headers"]
    assert answer.headers["x-echo"] == "hello"
    assert answer.headers["X-Vertex-AI-Endpoint-Id"] == endpoint.name
    assert answer.headers["X-Vertex-AI-Deployed-Model-Id"] == endpoint.list_models()[0].id
    assert answer.headers["X-Vertex-AI-Model"] == vertex_plane.model.resource_name
    assert answer.headers["X-Vertex-AI-Model-Version-Id"] == "1"


@both
def test_raw_predict_of_anything(endpoint):
    answer = endpoint.raw_predict(body=b"\x00\xff\x01", headers={"Content-Type": "image/png"}, timeout=30)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"\x01\xff\x00", "image/png")
    bad = endpoint.raw_predict(body=json.dumps(do("answer", status=422, text="no", type="text/plain")), headers=JSON)
    assert (bad.status_code, bad.text, bad.headers["content-type"]) == (422, "no", "text/plain")
    gone = endpoint.raw_predict(body=json.dumps(do("reset")), headers=JSON)
    assert (gone.status_code, gone.json()["error"]["status"]) == (503, "UNAVAILABLE")


@both
def test_use_raw_predict(vertex_plane, endpoint):
    answer = endpoint.predict(instances=[do("show"), 1], parameters={"k": 3}, use_raw_predict=True)
    assert body_of(answer) == '{"instances": [{"do": "show"}, 1], "parameters": {"k": 3}}'
    assert answer.model_resource_name == vertex_plane.model.resource_name
    assert (answer.model_version_id, answer.deployed_model_id) == ("1", endpoint.list_models()[0].id)


def http_body(content, kind="application/json"):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpbody_pb2.HttpBody(data=data, content_type=kind)


def test_raw_predict_over_grpc(vertex_plane):
    endpoint = vertex_plane.endpoint("public")
    client = prediction_client("grpc")
    answer = client.raw_predict(endpoint=endpoint.resource_name, http_body=http_body(b"\x00\xff", "image/png"))
    assert (answer.data, answer.content_type) == (b"\xff\x00", "image/png")
    with pytest.raises(exceptions.InvalidArgument, match="no"):
        client.raw_predict(endpoint=endpoint.resource_name, http_body=http_body(do("answer", status=422, text="no")))
    _, call = client.transport.raw_predict.with_call(
        gapic.RawPredictRequest(endpoint=endpoint.resource_name, http_body=http_body(do("who"))),
        metadata=[("x-goog-request-params", f"endpoint={endpoint.resource_name}")],
    )
    identity = dict(call.initial_metadata())
    assert identity["x-vertex-ai-endpoint-id"] == endpoint.name
    assert identity["x-vertex-ai-model"] == vertex_plane.model.resource_name


@both
def test_chunks_arrive_while_the_container_still_writes(endpoint, gate):
    lines = endpoint.stream_raw_predict(body=json.dumps(do("stream", url=gate.url)), headers=JSON)
    assert next(lines) == b"one"
    gate.wait()
    gate.open()
    assert list(lines) == [b"two"]


def test_chunks_over_gapic(vertex_plane, gate):
    endpoint = vertex_plane.endpoint("public")
    request = gapic.StreamRawPredictRequest(
        endpoint=endpoint.resource_name, http_body=http_body(do("stream", url=gate.url))
    )
    answers = iter(prediction_client("grpc").stream_raw_predict(request))
    assert next(answers).data == b"one\n"
    gate.wait()
    gate.open()
    assert b"".join(answer.data for answer in answers) == b"two\n"


@both
def test_a_client_that_leaves_a_stream_ends_it_for_the_container(endpoint, gate):
    lines = endpoint.stream_raw_predict(body=json.dumps(do("stream", url=gate.url, gone=True)), headers=JSON)
    assert next(lines) == b"one"
    lines.close()
    gate.wait()


def test_a_grpc_client_that_leaves_a_stream_ends_it_for_the_container(vertex_plane, gate):
    endpoint = vertex_plane.endpoint("public")
    request = gapic.StreamRawPredictRequest(
        endpoint=endpoint.resource_name, http_body=http_body(do("stream", url=gate.url, gone=True))
    )
    answers = prediction_client("grpc").stream_raw_predict(request)
    assert next(iter(answers)).data == b"one\n"
    answers.cancel()
    gate.wait()


def test_a_stream_s_error_has_its_class_over_grpc(vertex_plane):
    endpoint = vertex_plane.endpoint("public")
    request = gapic.StreamRawPredictRequest(
        endpoint=endpoint.resource_name, http_body=http_body(do("answer", status=503, text="busy"))
    )
    with pytest.raises(exceptions.ServiceUnavailable, match="busy"):
        list(prediction_client("grpc").stream_raw_predict(request))


# What is not served


@both
def test_explain_says_why_not(endpoint, transport):
    kind = exceptions.FailedPrecondition if transport == "grpc" else exceptions.BadRequest
    with pytest.raises(kind, match="has no explanationSpec"):
        endpoint.explain(instances=[1])
    with pytest.raises(exceptions.NotFound, match="DeployedModel 404"):
        endpoint.explain(instances=[1], deployed_model_id="404")


def test_explain_async_says_why_not(vertex_plane):
    endpoint = vertex_plane.endpoint("public")
    with pytest.raises(exceptions.FailedPrecondition, match="has no explanationSpec"):
        asyncio.run(endpoint.explain_async(instances=[1]))


@both
def test_direct_predict_says_why_not(endpoint, transport):
    kind = exceptions.FailedPrecondition if transport == "grpc" else exceptions.BadRequest
    with pytest.raises(kind, match="has no grpcPorts"):
        endpoint.direct_predict(inputs=[Tensor(dtype=Tensor.DataType.FLOAT, float_val=[1.0])])
    with pytest.raises(kind, match="has no grpcPorts"):
        endpoint.direct_raw_predict(method_name="/a.B/C", request=b"x")


def streams(client, name):
    """Each call of gRPC alone, through its gapic method."""
    one = {
        "streaming_predict": gapic.StreamingPredictRequest,
        "streaming_raw_predict": gapic.StreamingRawPredictRequest,
        "stream_direct_predict": gapic.StreamDirectPredictRequest,
        "stream_direct_raw_predict": gapic.StreamDirectRawPredictRequest,
    }
    return getattr(client, name), one[name]


@pytest.mark.parametrize(
    "name", ["streaming_predict", "streaming_raw_predict", "stream_direct_predict", "stream_direct_raw_predict"]
)
def test_the_streams_of_grpc_containers_say_why_not(vertex_plane, name):
    endpoint = vertex_plane.endpoint("public")
    call, request = streams(prediction_client("grpc"), name)
    with pytest.raises(exceptions.FailedPrecondition, match="has no grpcPorts"):
        list(call(requests=iter([request(endpoint=endpoint.resource_name)])))


def test_server_streaming_predict_says_why_not(vertex_plane):
    endpoint = vertex_plane.endpoint("public")
    with pytest.raises(exceptions.FailedPrecondition, match="has no grpcPorts"):
        list(prediction_client("grpc").server_streaming_predict({"endpoint": endpoint.resource_name}))


@both
def test_chat_says_why_not(endpoint, session):
    answer = session.post(f"https://{HOST}/v1/{endpoint.resource_name}/chat/completions", json={})
    assert (answer.status_code, answer.json()["error"]["status"]) == (501, "UNIMPLEMENTED")


# Several models, and requests while that changes


def ids(answers):
    return {answer.deployed_model_id for answer in answers}


def test_traffic_goes_by_the_split_while_it_changes(vertex_plane):
    vertex_plane.use("grpc")
    endpoint = vertex_plane.new()
    vertex_plane.model.deploy(endpoint=endpoint, machine_type="n1-standard-2", traffic_percentage=0)
    vertex_plane.model.deploy(endpoint=endpoint, machine_type="n1-standard-2", traffic_percentage=50)
    every = [model.id for model in endpoint.list_models()]
    none = next(key for key in every if not endpoint.traffic_split.get(key))
    with_traffic = {key for key in every if key != none}
    assert ids(endpoint.predict(instances=[do("who")]) for _ in range(64)) == with_traffic
    stop = threading.Event()
    failures, seen = [], []

    def ask():
        while not stop.is_set():
            try:
                seen.append(endpoint.predict(instances=[do("who")]).predictions[0]["id"])
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for key in itertools.islice(itertools.cycle(every), 9):
            endpoint.update(traffic_split={key: 100})
            # A request that began before the update may still be answered by the former.
            assert ids(endpoint.predict(instances=[do("who")]) for _ in range(8)) == {key}
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert set(seen) == set(every)
    endpoint.delete(force=True)


def test_a_request_in_flight_is_answered_while_its_model_is_undeployed(vertex_plane, gate):
    vertex_plane.use("grpc")
    endpoint = vertex_plane.new()
    found = []
    asking = threading.Thread(
        target=lambda: found.append(endpoint.predict(instances=[do("gate", url=gate.url)], timeout=60))
    )
    asking.start()
    gate.wait()
    undeploying = threading.Thread(target=endpoint.undeploy_all)
    undeploying.start()
    client = prediction_client("grpc")
    with pytest.raises(exceptions.FailedPrecondition, match="doesn't have a deployed model"):
        while True:  # until the undeployment has begun: from then on nobody else is let in
            client.predict(endpoint=endpoint.resource_name, instances=[do("who")])
    assert not found
    gate.open()
    asking.join()
    undeploying.join()
    assert found[0].predictions == ["opened"]
    endpoint.delete()
