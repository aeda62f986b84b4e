"""rawPredict, streamRawPredict, invoke and the calls that are refused."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from predict_servers import (
    BODY,
    BYTES,
    JSON,
    WHO,
    dying,
    endpoint,
    refused,
    replica,  # noqa: F401
    run,
    running,  # noqa: F401
    server,  # noqa: F401
    slow,  # noqa: F401
)

from cpr_kit.emulator.errors import Code
from cpr_kit.emulator.settings import Settings


@pytest.mark.parametrize("status", [200, 201, 302, 400, 500, 503])
def test_raw_predict_touches_nothing(server, replica, status):
    server.says(BYTES, status=status, headers={"content-type": "image/png", "location": "/elsewhere"})
    answer = run(lambda p: p.raw(endpoint(replica), BYTES, {"Content-Type": "application/x-thing"}))
    assert (answer.status, answer.body, answer.headers) == (status, BYTES, {"content-type": "image/png", **WHO})
    assert (server.seen[0].body, server.seen[0].headers["content-type"]) == (BYTES, "application/x-thing")


def test_raw_predict_without_a_type(server, replica):
    run(lambda p: p.raw(endpoint(replica), BYTES, {}))
    assert set(server.seen[0].headers) == {"host", "content-length"}


def test_which_headers_pass(server, replica):
    sent = {
        "content-type": "text/csv",
        "X-Request-Id": "r1",
        "accept": "text/csv",
        "authorization": "Bearer t",
        "x-goog-user-project": "p",
        "x-forwarded-for": "1.2.3.4",
        "connection": "close",
        "cookie": "a=b",
    }
    answered = {"content-type": "text/csv", "x-took": "3", "x-vertex-ai-model": "forged", "set-cookie": "a=b"}
    server.says(b"1", headers=answered)
    answer = run(lambda p: p.raw(endpoint(replica), b"1", sent))
    assert server.seen[0].headers.keys() - {"host", "content-length"} == {"content-type", "x-request-id", "accept"}
    assert answer.headers == {"content-type": "text/csv", "x-took": "3", **WHO}

    fewer = Settings(model_headers_on_raw_predict=False)
    answer = run(lambda p: p.raw(endpoint(replica), b"1", sent), fewer)
    assert answer.headers.keys() - JSON.keys() == {"x-took", "x-vertex-ai-endpoint-id", "x-vertex-ai-deployed-model-id"}

    closed = Settings(pass_request_headers=False, model_headers_on_raw_predict=False)
    answer = run(lambda p: p.raw(endpoint(replica), b"1", sent), closed)
    assert server.seen[2].headers.keys() - {"host", "content-length"} == {"content-type"}
    assert answer.headers.keys() == {"content-type", "x-vertex-ai-endpoint-id", "x-vertex-ai-deployed-model-id"}


def test_packed_bodies_stay_packed(server, replica):
    packed = gzip.compress(b"x" * 100)
    server.says(packed, headers={"content-type": "text/plain", "content-encoding": "gzip"})
    sent = {"content-type": "text/plain", "content-encoding": "gzip"}
    answer = run(lambda p: p.raw(endpoint(replica), packed, sent))
    assert (answer.body, answer.headers["content-encoding"]) == (packed, "gzip")
    assert (server.seen[0].body, server.seen[0].headers["content-encoding"]) == (packed, "gzip")


def test_a_private_endpoint_is_its_container(server, replica):
    server.says(b"teapot", status=418, headers={"content-type": "text/plain"})
    target = endpoint(replica, kind="psa")
    answer = run(lambda p: p.private(target, "5", b'{"instances": [], "parameters": null}', JSON))
    assert (answer.status, answer.headers, answer.body) == (418, {"content-type": "text/plain"}, b"teapot")
    assert server.seen[0].body == b'{"instances": [], "parameters": null}'
    assert refused(lambda p: p.private(target, "6", b"", JSON)).code is Code.NOT_FOUND
    assert "predictHttpUri" in str(refused(lambda p: p.predict_json(target, BODY)))


# --- streams


def test_chunks_come_as_they_are_sent(server, replica, slow):
    async def ask(predictions):
        answer = await predictions.stream(endpoint(replica), BYTES, JSON)
        chunks = []
        async for chunk in answer.chunks():
            chunks.append((chunk, replica.in_flight))
            slow.set()
        return answer, chunks

    answer, chunks = run(ask)
    assert chunks == [(b"one", 1), (b"two", 1)]
    assert (answer.status, answer.headers) == (200, {"content-type": "text/event-stream", **WHO})
    assert server.seen[0].body == BYTES


@pytest.mark.parametrize("way", ["close", "aclose", "cancel", "unread"])
def test_a_caller_who_leaves_is_felt_by_the_container(server, replica, slow, way):
    async def ask(predictions):
        answer = await predictions.stream(endpoint(replica), b"", JSON)
        chunks = answer.chunks()
        if way != "unread":
            assert await anext(chunks) == b"one"
        if way == "aclose":
            await chunks.aclose()
        elif way == "cancel":
            waiting = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        else:
            answer.close()
        assert replica.in_flight == 0
        assert await asyncio.to_thread(server.gone.wait, 10)

    run(ask)


def test_a_stream_longer_than_the_time(server, replica, slow):
    async def ask(predictions):
        answer = await predictions.stream(endpoint(replica, kind="dedicated", timeout_s=1), b"", JSON)
        return [chunk async for chunk in answer.chunks()]

    assert refused(ask).code is Code.DEADLINE_EXCEEDED
    assert server.gone.wait(10)


def test_a_stream_that_breaks_off():
    async def ask(predictions):
        answer = await predictions.stream(endpoint(first), b"", JSON)
        async for chunk in answer.chunks():
            got.append(chunk)

    got = []
    with dying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n") as (first, _):
        assert refused(ask).code is Code.UNAVAILABLE
    assert (b"".join(got), first.in_flight) == (b"abcde", 0)


# --- invoke, and what is refused


def test_invoke(server, replica):
    server.says(b"ok", status=404, headers={"content-type": "text/plain"})

    async def ask(predictions):
        answer = await predictions.invoke(target, "/v1/a%2Fb/../c?x=%20y", BYTES, {"content-type": "a/b"}, "5")
        return answer, b"".join([chunk async for chunk in answer.chunks()])

    target = endpoint(replica, kind="dedicated", invoke=True)
    answer, body = run(ask)
    assert (answer.status, body, answer.headers) == (404, b"ok", {"content-type": "text/plain", **WHO})
    assert (server.seen[0].path, server.seen[0].body) == ("/v1/a%2Fb/../c?x=%20y", BYTES)


@pytest.mark.parametrize("path", ["", "/", "a", "@elsewhere.example/x", "/a b", "/a\r\nx: y", "/é"])
def test_paths_that_are_not_invoked(server, replica, path):
    error = refused(lambda p: p.invoke(endpoint(replica, kind="psc", invoke=True), path, b"", JSON))
    assert (error.code, server.seen) == (Code.INVALID_ARGUMENT, [])


def test_invoke_needs_a_model_for_it(replica):
    error = refused(lambda p: p.invoke(endpoint(replica, kind="dedicated"), "/a", b"", JSON))
    assert error.code is Code.FAILED_PRECONDITION
    assert 'no invokeRoutePrefix "/*"' in str(error)


@pytest.mark.parametrize(
    ("ask", "code", "words"),
    [
        (lambda p, t: p.explain(t()), Code.FAILED_PRECONDITION, "it has no explanationSpec"),
        (lambda p, t: p.explain(t(explanation=True)), Code.UNIMPLEMENTED, "explain is not served here"),
        (lambda p, t: p.explain(t(), "9"), Code.NOT_FOUND, "DeployedModel 9 is not found"),
        (lambda p, t: p.explain(t(kind="dedicated")), Code.FAILED_PRECONDITION, "it is on a shared public endpoint"),
        (lambda p, t: p.direct(t(), "directPredict"), Code.FAILED_PRECONDITION, "has no grpcPorts"),
        (lambda p, t: p.direct(t(grpc=True), "directRawPredict"), Code.UNIMPLEMENTED, "not served here"),
        (lambda p, t: p.chat(t()), Code.UNIMPLEMENTED, "Use rawPredict"),
    ],
)
def test_calls_that_are_refused(ask, code, words):
    async def refuse(predictions):
        ask(predictions, endpoint)

    error = refused(refuse)
    assert error.code is code
    assert words in str(error)
