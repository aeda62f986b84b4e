"""A predict that yields, through the real server."""

import time

import pytest
import requests


def wait_for(server, text):
    deadline = time.monotonic() + 15
    while text not in server.stdout():
        assert time.monotonic() < deadline, server.stdout()
        time.sleep(0.05)


def test_pieces_are_lines_of_json_postprocessed_one_by_one(serve):
    response = serve("batches:Streams").ready().predict({"count": 3})

    assert (response.status_code, response.headers["content-type"]) == (200, "application/jsonl")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.text == '{"piece":0}\n{"piece":1}\n{"piece":2}\n'


def test_text_is_streamed_as_text(serve):
    response = serve("batches:StreamsAsync").ready().predict({"count": 3})

    assert (response.text, response.headers["content-type"]) == ("0 1 2 ", "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("predictor", "data"), [("batches:Streams", 'data: {"piece":0}\n\n'), ("batches:StreamsAsync", "data: 0 \n\n")]
)
def test_server_sent_events_when_asked(serve, predictor, data):
    response = serve(predictor).ready().predict({"count": 1}, headers={"Accept": "text/event-stream"})

    assert (response.text, response.headers["content-type"]) == (data, "text/event-stream")


def test_pieces_leave_as_they_are_made(serve):
    server = serve("batches:Streams").ready()
    with server.session.post(
        f"{server.url}/predict", json={"count": 2, "pause": 1}, stream=True, timeout=10
    ) as response:
        lines = response.iter_lines()
        assert next(lines) == b'{"piece":0}'
        began = time.monotonic()
        assert next(lines) == b'{"piece":1}'
        assert time.monotonic() - began > 0.5


def test_streams_are_interleaved_and_health_is_free(serve):
    server = serve("batches:StreamsAsync").ready()
    with server.session.post(f"{server.url}/predict", json={"count": 9, "pause": 0.3}, stream=True, timeout=10) as slow:
        assert requests.post(f"{server.url}/predict", json={"count": 2}, timeout=10).text == "0 1 "
        assert requests.get(f"{server.url}/health", timeout=10).status_code == 200
        assert slow.text == "0 1 2 3 4 5 6 7 8 "


@pytest.mark.parametrize("predictor", ["batches:Streams", "batches:StreamsAsync"])
def test_a_stream_is_closed_when_its_client_leaves(serve, predictor):
    server = serve(predictor).ready()
    with server.session.post(
        f"{server.url}/predict", json={"count": 10**9, "pause": 0.01}, stream=True, timeout=10
    ) as response:
        next(response.iter_content(1))

    wait_for(server, "closed")
    assert server.predict({"count": 1}).status_code == 200


def test_an_error_midway_ends_the_stream_visibly(serve):
    server = serve("batches:Streams").ready()

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        server.predict({"count": 3, "fails_at": 1})
    with server.session.post(
        f"{server.url}/predict", json={"count": 3, "fails_at": 1}, stream=True, timeout=10
    ) as response:
        lines = response.iter_lines()
        assert next(lines) == b'{"piece":0}'
        assert b'"code":500' in next(lines)
    with server.session.post(
        f"{server.url}/predict",
        json={"count": 3, "fails_at": 1},
        headers={"Accept": "text/event-stream"},
        stream=True,
        timeout=10,
    ) as response:
        text = b""
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            for chunk in response.iter_content(None):
                text += chunk
    assert b"event: error\ndata: " in text
    assert b"hunter2" not in text
    assert server.stderr().count("RuntimeError: password is hunter2") == 3


def test_an_error_before_the_first_piece_is_an_ordinary_answer(serve):
    server = serve("batches:StreamsAsync").ready()

    response = server.predict({"count": 3, "fails_at": 0})
    assert (response.status_code, response.json()["error"]["message"]) == (422, "no such piece")


def test_a_stream_without_pieces_is_empty(serve):
    response = serve("batches:Streams").ready().predict({"count": 0})
    assert (response.status_code, response.content) == (200, b"")


def test_a_stream_is_cut_at_its_deadline(serve):
    server = serve("batches:StreamsAsync", CPR_SERVE_REQUEST_TIMEOUT="1").ready()

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        server.predict({"count": 1000, "pause": 0.1})
    wait_for(server, "closed")
