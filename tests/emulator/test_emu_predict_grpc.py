"""The data path over real gRPC, as the emulator's own server calls it."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from google.api import httpbody_pb2
from google.cloud.aiplatform_v1.types import prediction_service
from google.protobuf import json_format
from predict_servers import (
    BYTES,
    MODEL,
    NAME,
    WHO,
    endpoint,
    replica,  # noqa: F401
    run,
    running,  # noqa: F401
    server,  # noqa: F401
    slow,  # noqa: F401
)

from cpr_kit.emulator.errors import ApiError

PredictRequest = prediction_service.PredictRequest
PredictResponse = prediction_service.PredictResponse
RawPredictRequest = prediction_service.RawPredictRequest
HttpBody = httpbody_pb2.HttpBody
SERVICE = "google.cloud.aiplatform.v1.PredictionService"


@contextlib.asynccontextmanager
async def channel(predictions, target):
    """A client of a gRPC server that has three calls and nothing else; the emulator's own server does as much."""

    async def stop(context, error):
        await context.abort(grpc.StatusCode[error.code.name], error.message)

    async def predict(request, context):
        try:
            return await predictions.predict_message(target, request)
        except ApiError as error:
            await stop(context, error)

    async def raw(request, context):
        try:
            answer = await predictions.raw_message(target, request.http_body, dict(context.invocation_metadata()))
        except ApiError as error:
            await stop(context, error)
        await context.send_initial_metadata(tuple(answer.metadata.items()))
        return answer.body

    async def stream(request, context):
        try:
            async for part in predictions.stream_messages(target, request.http_body):
                yield part
        except ApiError as error:
            await stop(context, error)

    request, body = RawPredictRequest.pb().FromString, HttpBody.SerializeToString
    handlers = {
        "Predict": grpc.unary_unary_rpc_method_handler(
            predict, PredictRequest.pb().FromString, PredictResponse.pb().SerializeToString
        ),
        "RawPredict": grpc.unary_unary_rpc_method_handler(raw, request, body),
        "StreamRawPredict": grpc.unary_stream_rpc_method_handler(stream, request, body),
    }
    running = grpc.aio.server()
    running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as made:
            yield made
    finally:
        await running.stop(None)


def over_grpc(target, call, settings=None):
    async def ask(predictions):
        async with channel(predictions, target) as made:
            return await call(made)

    return run(ask, settings)


def predict(instances, parameters=None):
    request = PredictRequest.pb()(endpoint=NAME)
    json_format.ParseDict({"instances": instances, **({"parameters": parameters} if parameters else {})}, request)
    return request


def ask_predict(request):
    def call(made):
        method = made.unary_unary(
            f"/{SERVICE}/Predict", PredictRequest.pb().SerializeToString, PredictResponse.pb().FromString
        )
        return method(request, timeout=20)

    return call


def raw_request():
    return RawPredictRequest.pb()(endpoint=NAME, http_body=HttpBody(content_type="text/csv", data=BYTES))


def test_predict_over_grpc(server, replica):
    server.says(b'{"predictions": [1, {"a": [true, null, "x"]}], "metadata": {"n": 2}, "more": 1}')
    response = over_grpc(endpoint(replica), ask_predict(predict([1, {"b": [2.5, False]}], {"k": 3})))
    assert server.seen[0].body == b'{"instances":[1.0,{"b":[2.5,false]}],"parameters":{"k":3.0}}'
    assert json_format.MessageToDict(response) == {
        "predictions": [1.0, {"a": [True, None, "x"]}],
        "metadata": {"n": 2.0},
        "deployedModelId": "5",
        "model": MODEL,
        "modelVersionId": "2",
        "modelDisplayName": "iris",
    }


@pytest.mark.parametrize(
    ("status", "code"), [(400, "FAILED_PRECONDITION"), (500, "INTERNAL"), (503, "UNAVAILABLE"), (404, "NOT_FOUND")]
)
@pytest.mark.parametrize("length", [10, 100_000])
def test_errors_over_grpc(server, replica, status, code, length):
    """A client drops the whole status when it is longer than its limit for headers."""
    server.says("é".encode() * length, status=status)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        over_grpc(endpoint(replica), ask_predict(predict([1])))
    assert caught.value.code().name == code
    said = caught.value.details()
    assert said == "é" * 10 if length == 10 else said.endswith("é... (200000 bytes in all)")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (predict([]), "Empty instances."),
        (predict(["x" * 1_500_000]), "payload size exceeds the limit"),
    ],
)
def test_requests_refused_over_grpc(server, replica, request_, words):
    with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
        over_grpc(endpoint(replica), ask_predict(request_))
    assert (caught.value.code(), server.seen) == (grpc.StatusCode.INVALID_ARGUMENT, [])


def test_raw_predict_over_grpc(server, replica):
    async def call(made):
        method = made.unary_unary(
            f"/{SERVICE}/RawPredict", RawPredictRequest.pb().SerializeToString, HttpBody.FromString
        )
        asked = method(raw_request(), timeout=20, metadata=(("x-request-id", "r1"),))
        return dict(await asked.initial_metadata()), await asked

    server.says(b"\x01", headers={"content-type": "a/b"})
    metadata, body = over_grpc(endpoint(replica), call)
    assert (body.content_type, body.data) == ("a/b", b"\x01")
    assert metadata.items() >= WHO.items()
    seen = server.seen[0]
    assert (seen.body, seen.headers["content-type"], seen.headers["x-request-id"]) == (BYTES, "text/csv", "r1")
    server.says(b"no", status=400)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        over_grpc(endpoint(replica), call)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "no")


@pytest.mark.parametrize("content_type", ["text/csv\r\nx-evil: 1", "a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("verb", ["RawPredict", "StreamRawPredict"])
def test_a_content_type_that_is_no_header_is_refused(server, replica, content_type, verb):
    async def call(made):
        kind = made.unary_unary if verb == "RawPredict" else made.unary_stream
        method = kind(f"/{SERVICE}/{verb}", RawPredictRequest.pb().SerializeToString, HttpBody.FromString)
        body = HttpBody(content_type=content_type, data=b"x")
        asked = method(RawPredictRequest.pb()(endpoint=NAME, http_body=body), timeout=20)
        return await asked if verb == "RawPredict" else [part async for part in asked]

    with pytest.raises(grpc.aio.AioRpcError, match="content-type has a control character") as caught:
        over_grpc(endpoint(replica), call)
    assert (caught.value.code(), server.seen) == (grpc.StatusCode.INVALID_ARGUMENT, [])


def stream_call(made):
    method = made.unary_stream(
        f"/{SERVICE}/StreamRawPredict", RawPredictRequest.pb().SerializeToString, HttpBody.FromString
    )
    return method(raw_request(), timeout=20)


def test_stream_over_grpc(server, replica, slow):
    async def call(made):
        chunks = []
        async for part in stream_call(made):
            chunks.append((part.content_type, part.data))
            slow.set()
        return chunks

    kind = "text/event-stream"
    assert over_grpc(endpoint(replica), call) == [(kind, b"one"), (kind, b"two")]


def test_leaving_a_stream_over_grpc(server, replica, slow):
    async def call(made):
        asked = stream_call(made)
        await asked.read()
        asked.cancel()
        assert await asyncio.to_thread(server.gone.wait, 10)

    over_grpc(endpoint(replica), call)


def test_a_streams_refusal_over_grpc(server, replica):
    async def call(made):
        return [part async for part in stream_call(made)]

    server.says(b"busy", status=503)
    with pytest.raises(grpc.aio.AioRpcError, match="busy") as caught:
        over_grpc(endpoint(replica), call)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
