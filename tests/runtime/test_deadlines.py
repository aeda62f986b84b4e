"""Time and room: deadlines, refusals, and clients that leave."""

import concurrent.futures
import json
import socket
import time

import pytest


def open_request(server, body):
    payload = json.dumps(body).encode()
    client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    client.sendall(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(payload)
        + payload
    )
    return client


@pytest.mark.parametrize("predictor", ["batches:Works", "batches:Notes"])
def test_a_request_is_answered_504_at_its_deadline(serve, predictor):
    server = serve(predictor, CPR_SERVE_REQUEST_TIMEOUT="1").ready()

    began = time.monotonic()
    response = server.predict({"seconds": 3})

    assert time.monotonic() - began <= 1
    assert (response.status_code, response.json()["error"]["status"]) == (504, "DEADLINE_EXCEEDED")
    assert "within the 1 s" in response.json()["error"]["message"]
    assert server.stderr() == ""


def test_a_handler_of_ones_own_has_the_same_deadline(serve):
    server = serve(handler="answers:SyncHandler", CPR_SERVE_REQUEST_TIMEOUT="1").ready()
    assert server.predict(params={"seconds": 2}).status_code == 504


def test_what_waited_beyond_its_deadline_never_reaches_the_model(serve):
    server = serve("batches:Works", CPR_SERVE_REQUEST_TIMEOUT="1").ready()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(server.predict, [{"seconds": 2}] * 4))
    assert [answer.status_code for answer in answers] == [504] * 4

    deadline = time.monotonic() + 20
    while (answer := server.predict({})).status_code != 200:
        assert time.monotonic() < deadline
    assert answer.json()["predictions"][0] <= 3


def test_an_asynchronous_predict_is_cancelled_when_its_client_leaves(serve):
    server = serve("batches:Notes").ready()
    client = open_request(server, {"seconds": 30})
    time.sleep(0.5)
    client.close()

    deadline = time.monotonic() + 10
    while "cancelled" not in server.stdout():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.predict({"seconds": 0}).status_code == 200
    assert server.stderr() == ""


def test_a_client_that_leaves_is_taken_out_of_the_queue(serve):
    server = serve("batches:Works").ready()
    busy = open_request(server, {"seconds": 1})
    time.sleep(0.2)
    for _ in range(5):
        open_request(server, {"seconds": 5}).close()
    time.sleep(0.2)

    began = time.monotonic()
    assert server.predict({}).json() == {"predictions": [2]}
    assert time.monotonic() - began < 5
    busy.close()


def test_a_full_queue_answers_429_at_once(serve):
    server = serve("batches:Works", CPR_SERVE_MAX_QUEUE="2").ready()
    waiting = [open_request(server, {"seconds": 1}) for _ in range(2)]
    time.sleep(0.2)

    response = server.predict({})

    assert (response.status_code, response.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert int(response.headers["retry-after"]) >= 1
    assert response.elapsed.total_seconds() < 0.5
    for client in waiting:
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        client.close()
    assert server.predict({}).status_code == 200


def test_what_cannot_be_met_is_refused_early(serve):
    server = serve("batches:Works", CPR_SERVE_REQUEST_TIMEOUT="2").ready()
    for _ in range(3):
        server.predict({"seconds": 0.4})
    waiting = [open_request(server, {"seconds": 0.4}) for _ in range(3)]
    time.sleep(0.1)

    response = server.predict({"seconds": 0.4})

    assert response.status_code == 429
    assert "a request has 2 s" in response.json()["error"]["message"]
    for client in waiting:
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        client.close()


def test_a_body_above_the_limit_is_refused_before_it_is_read(serve):
    server = serve("answers:Doubles", CPR_SERVE_MAX_BODY="1000").ready()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 413")


def test_the_limit_of_a_body_follows_the_kind_of_endpoint(serve):
    body = b'{"instances": [1]%s}' % (b" " * 1_600_000)
    headers = {"Content-Type": "application/json"}

    assert serve("answers:Doubles").ready().predict(data=body, headers=headers).status_code == 413
    dedicated = serve("answers:Doubles", CPR_SERVE_ENDPOINT_KIND="dedicated").ready()
    assert dedicated.predict(data=body, headers=headers).status_code == 200
