"""Predict over REST, against real HTTP servers on 127.0.0.1."""

from __future__ import annotations

import json

import orjson
import pytest
from predict_servers import (
    BODY,
    JSON,
    MODEL,
    Replica,
    closed_port,
    dying,
    endpoint,
    refused,
    replica,  # noqa: F401
    run,
    running,  # noqa: F401
    server,  # noqa: F401
)

from cpr_kit.emulator.errors import Code
from cpr_kit.emulator.settings import Settings


def test_shared_predict_makes_floats_of_ints_both_ways(server, replica):
    answer = run(lambda p: p.predict_json(endpoint(replica), BODY))
    assert server.seen[0].body == b'{"instances":[1.0,[2.0,"x"]],"parameters":{"k":3.0}}'
    assert (server.seen[0].path, server.seen[0].headers["content-type"]) == ("/predict", "application/json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert answer.body == (
        b'{"predictions":[1.0,2.0],"deployedModelId":"5","model":"%b",'
        b'"modelDisplayName":"iris","modelVersionId":"2"}' % MODEL.encode()
    )


@pytest.mark.parametrize("kind", ["dedicated", "psc"])
def test_the_other_kinds_carry_json_as_it_is(server, replica, kind):
    server.says(b' {"predictions": [1, 9007199254740993], "metadata": {"n": 1}} \n')
    answer = run(lambda p: p.predict_json(endpoint(replica, kind=kind), BODY))
    assert server.seen[0].body == BODY
    assert answer.body.startswith(b' {"predictions": [1, 9007199254740993], "metadata": {"n": 1},"deployedModelId":"5"')
    assert json.loads(answer.body)["modelVersionId"] == "2"


def test_parameters_of_null_are_left_out(server, replica):
    run(lambda p: p.predict_json(endpoint(replica), b'{"instances":["a"],"parameters":null}'))
    assert server.seen[0].body == b'{"instances":["a"]}'


@pytest.mark.parametrize("kind", ["public", "dedicated"])
def test_other_keys_of_an_answer_are_dropped_or_kept(server, replica, kind):
    server.says(b'{"predictions": ["a"], "metadata": {"a": 1}, "took": 3, "model": "mine"}')
    dropped = orjson.loads(run(lambda p: p.predict_json(endpoint(replica, kind=kind), BODY)).body)
    assert "took" not in dropped
    assert (dropped["metadata"], dropped["model"]) == ({"a": 1}, MODEL)
    keeping = Settings(drop_extra_keys=False)
    kept = orjson.loads(run(lambda p: p.predict_json(endpoint(replica, kind=kind), BODY), keeping).body)
    assert (kept["took"], kept["model"]) == (3, MODEL)


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("public", b"{", "Invalid JSON payload received"),
        ("public", b'{"instances": [NaN]}', "Invalid JSON payload received"),
        ("public", b"[1]", "no JSON object"),
        ("public", b'{"instances": [1], "signature": 1}', 'Unknown name "signature"'),
        ("public", b"{}", "Empty instances."),
        ("dedicated", b'{"instances": []}', "Empty instances."),
        ("dedicated", b'{"instances": {"a": 1}}', "Invalid value at 'instances'"),
        ("public", b'{"instances": [' + b"[" * 200 + b"]" * 200 + b"]}", "deeper than 100"),
    ],
)
def test_requests_that_never_reach_a_container(server, replica, kind, body, words):
    error = refused(lambda p: p.predict_json(endpoint(replica, kind=kind), body))
    assert (error.code, error.http_status) == (Code.INVALID_ARGUMENT, 400)
    assert words in str(error)
    assert server.seen == []


@pytest.mark.parametrize("method", ["predict_json", "raw", "stream"])
def test_a_request_over_the_limit(server, replica, method):
    body = b'{"instances": ["' + b"x" * 1_500_000 + b'"]}'
    more = () if method == "predict_json" else (JSON,)
    error = refused(lambda p: getattr(p, method)(endpoint(replica), body, *more))
    assert "Request payload size exceeds the limit: 1500000 bytes." in str(error)
    assert server.seen == []
    run(lambda p: p.predict_json(endpoint(replica, kind="dedicated"), body))
    assert server.seen[0].body == body


@pytest.mark.parametrize("headers", [{}, {"content-length": "1500001"}])
def test_an_answer_over_the_limit(server, replica, headers):
    """With its length told beforehand, and without."""
    server.says(b"x" * 1_500_001, headers=headers)
    error = refused(lambda p: p.raw(endpoint(replica), b"", JSON))
    assert "Response payload size exceeds the limit: 1500000 bytes." in str(error)
    server.says(b"x" * 1_500_000, headers={})
    assert len(run(lambda p: p.raw(endpoint(replica), b"", JSON)).body) == 1_500_000


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "the response is no JSON"),
        (b'{"predictions": [NaN]}', "the response is no JSON"),
        (b'{"error": "x"}', 'the response field predictions is missing. Response: {"error": "x"}'),
        (b"[1]", "the response field predictions is missing"),
        (b'{"predictions": {"a": 1}}', "the response field predictions is no list"),
        (b'{"predictions": [' + b"[" * 300 + b"]" * 300 + b"]}", "deeper than 100"),
    ],
)
def test_a_200_that_is_no_prediction(server, replica, body, words):
    server.says(body)
    error = refused(lambda p: p.predict_json(endpoint(replica), BODY))
    assert (error.code, error.http_status) == (Code.INTERNAL, 500)
    assert words in str(error)
    error = refused(lambda p: p.predict_json(endpoint(replica), BODY), Settings(not_json_status=400))
    assert (error.code, error.http_status) == (Code.FAILED_PRECONDITION, 400)


def test_an_answer_too_deep_to_be_written_again(server, replica):
    server.says(b'{"more": 1, "predictions": [' + b"[" * 300 + b"]" * 300 + b"]}")
    error = refused(lambda p: p.predict_json(endpoint(replica, kind="dedicated"), BODY))
    assert (error.code, "Recursion limit" in str(error)) == (Code.INTERNAL, True)


def test_predictions_are_counted_if_wanted(server, replica):
    server.says(b'{"predictions": [1]}')
    assert run(lambda p: p.predict_json(endpoint(replica), BODY)).status == 200
    error = refused(lambda p: p.predict_json(endpoint(replica), BODY), Settings(check_prediction_count=True))
    assert "1 predictions for 2 instances" in str(error)


def test_a_containers_refusal(server, replica):
    server.says(b'{"error": "no"}', status=422)
    error = refused(lambda p: p.predict_json(endpoint(replica), BODY))
    assert (error.http_status, str(error)) == (422, '{"error": "no"}')


def test_a_replica_that_cannot_be_reached_is_left_for_another(server, replica):
    dead = Replica(f"http://127.0.0.1:{closed_port()}")
    assert run(lambda p: p.predict_json(endpoint(dead, replica), BODY)).status == 200
    assert (dead.failures, dead.in_flight, replica.failures) == (1, 0, 0)


def test_no_replica_can_be_reached():
    dead = [Replica(f"http://127.0.0.1:{closed_port()}") for _ in range(3)]
    error = refused(lambda p: p.predict_json(endpoint(*dead), BODY))
    assert error.code is Code.UNAVAILABLE
    assert "connection failure" in str(error)
    assert [replica.failures for replica in dead] == [1, 1, 0]
    error = refused(lambda p: p.predict_json(endpoint(dead[0]), BODY))
    assert (error.http_status, str(error)) == (503, "no healthy upstream")


def test_a_request_that_was_sent_is_not_sent_again(server, replica):
    """On a connection that is used for the second time, too: the container may have worked on it, or died of it."""

    async def twice(predictions):
        target = endpoint(first, replica)
        await predictions.predict_json(target, BODY)
        await predictions.predict_json(target, BODY)

    with dying(b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"predictions":[]}', keeps=True) as (first, requests):
        error = refused(twice)
    assert error.code is Code.UNAVAILABLE
    assert "connection termination" in str(error)
    assert (len(requests), first.failures, first.breaks, first.in_flight, server.seen) == (2, 0, 1, 0, [])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"220 mail.example ESMTP\r\n", id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}", id="cut"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n", id="cut chunks"),
    ],
)
@pytest.mark.parametrize("method", ["predict_json", "raw"])
def test_a_container_that_breaks_off(method, answer):
    more = (JSON,) if method == "raw" else ()
    with dying(answer) as (first, _):
        error = refused(lambda p: getattr(p, method)(endpoint(first), BODY, *more))
    assert (error.code, first.in_flight) == (Code.UNAVAILABLE, 0)


def test_a_container_slower_than_the_limit(server, replica):
    async def never(receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        server.gone.set()

    server.answer = never
    error = refused(lambda p: p.predict_json(endpoint(replica, kind="dedicated", timeout_s=1), BODY))
    assert (error.http_status, error.code, str(error)) == (504, Code.DEADLINE_EXCEEDED, "upstream request timeout")
    assert server.gone.wait(10)
