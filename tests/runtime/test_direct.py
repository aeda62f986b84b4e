"""The short way to the model: it keeps every rule of the long one, over real sockets."""

import concurrent.futures
import json
import re
import socket
import struct
import time
from pathlib import Path

import pytest


def raw(body, *, path="/predict", extra=b""):
    payload = json.dumps(body).encode()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
    return head % (path.encode(), extra, len(payload)), payload


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=15)


def read_until(client, count, what=b"HTTP/1.1 "):
    data = b""
    while data.count(what) < count:
        chunk = client.recv(1 << 16)
        assert chunk, data[-500:]
        data += chunk
    return data


def test_a_client_that_expects_100_gets_it_and_its_answer(serve):
    server = serve("edges:Edges").ready()
    with connect(server) as client:
        head, payload = raw({"instances": [1]}, extra=b"Expect: 100-continue\r\n")
        client.sendall(head)
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(payload)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_body_in_pieces_and_a_large_one_are_answered(serve):
    server = serve("edges:Edges").ready()
    with connect(server) as client:
        head, payload = raw({"instances": ["x" * 300_000]})
        for piece in (head[:10], head[10:], payload[:7], payload[7:100_000], payload[100_000:]):
            client.sendall(piece)
            time.sleep(0.05)
        assert b"x" * 1000 in read_until(client, 1, b'"]}')


def unfinished(server, extra=b""):
    """A connection whose request the server waits for: half of its body is there."""
    client = connect(server)
    head, payload = raw({"instances": ["x" * 1000]}, extra=extra)
    client.sendall(head + payload[:500])
    return client, payload[500:]


def leaves(client, rest):
    client.close()


def resets(client, rest):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def ends_early(client, rest):
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1000).startswith(b"HTTP/1.1 400 ")


def is_too_slow(client, rest):
    assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


def is_late(client, rest):
    assert client.recv(1000).startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 504 "))  # both run out


def finishes(client, rest):
    client.sendall(rest)
    assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("end", "timeout"),
    [(leaves, "60"), (resets, "60"), (ends_early, "60"), (is_too_slow, "60"), (is_late, "0.5"), (finishes, "60")],
)
def test_a_body_that_is_arriving_has_a_place_and_gives_it_back_however_it_ends(serve, end, timeout):
    server = serve("edges:Edges", CPR_SERVE_MAX_QUEUE="2", CPR_SERVE_REQUEST_TIMEOUT=timeout).ready()
    waiting = [unfinished(server) for _ in range(2)]
    time.sleep(0.2)
    refused, _ = unfinished(server, b"Expect: 100-continue\r\n")
    assert read_until(refused, 1, b"\r\n\r\n").startswith(b"HTTP/1.1 429 ")
    refused.close()

    for client, rest in waiting:
        end(client, rest)
    time.sleep(0.2)
    again = [unfinished(server) for _ in range(2)]
    for client, rest in again:
        finishes(client, rest)
    for client, _ in waiting + again:
        client.close()


def test_a_connection_goes_on_after_a_refusal_that_came_before_the_body(serve):
    server = serve("edges:Edges", CPR_SERVE_MAX_QUEUE="1").ready()
    first, first_rest = unfinished(server)
    time.sleep(0.2)
    second, rest = unfinished(server)
    read_until(second, 1)
    finishes(first, first_rest)
    second.sendall(rest + b"".join(raw({"instances": [1]})))
    assert read_until(second, 1, b'{"predictions":[1]}').startswith(b"HTTP/1.1 200 ")
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("status", 500),
        ("header", 500),
        ("latin", 500),
        ("detail", 500),
        ("framing", 418),
        ("empty", 204),
        ("fine", 200),
    ],
)
def test_whatever_the_author_raises_is_http_and_fails_nobody_else(serve, what, status):
    server = serve("edges:Edges").ready()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        busy = pool.submit(server.predict, {"instances": [0], "parameters": {"sleep": 0.5}})
        time.sleep(0.2)
        answers = list(pool.map(server.predict, [{"instances": [w]} for w in ("a", what, "b", "c")]))
        assert busy.result().status_code == 200

    assert [answer.status_code for answer in answers] == [200, status, 200, 200]
    assert "X-Evil" not in answers[1].headers
    assert server.predict({"instances": ["after"]}).json() == {"predictions": ["after"]}


def test_a_status_without_a_body_leaves_the_connection_whole(serve):
    server = serve("edges:Edges").ready()
    with connect(server) as client:
        for body in ({"instances": ["empty"]}, {"instances": ["fine"]}):
            client.sendall(b"".join(raw(body)))
        data = read_until(client, 2)
        assert data.startswith(b"HTTP/1.1 204 ")
        assert data.endswith(b'{"predictions":["fine"]}')


def test_a_predict_that_changes_its_input_is_asked_again_with_the_input_as_it_was(serve):
    server = serve("edges:ChangesItsInput").ready()
    rows = [{"id": 1, "n": 1}, {"id": "bad", "n": 1}, {"id": 3, "n": 1}]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        busy = pool.submit(server.predict, {"instances": [{"id": 0, "n": 0}], "parameters": {"sleep": 0.5}})
        time.sleep(0.2)
        answers = list(pool.map(server.predict, [{"instances": [row, {"id": 2, "n": 2}]} for row in rows]))
        busy.result()

    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert [answers[0].json(), answers[2].json()] == [{"predictions": [2, 4]}, {"predictions": [4, 4]}]


def test_a_pipelined_flood_of_refusals_is_answered_in_order(serve):
    server = serve("edges:Edges", CPR_SERVE_MAX_QUEUE="1").ready()
    with connect(server) as client, connect(server) as other:
        slow = b"".join(raw({"instances": ["slow"], "parameters": {"sleep": 1}}))
        other.sendall(b"".join(raw({"instances": ["slow"], "parameters": {"sleep": 2}})))
        time.sleep(0.3)
        client.sendall(slow + b"".join(raw({"instances": [1]})) * 300)
        data = read_until(client, 301)
        assert data.count(b"HTTP/1.1 429") >= 300
    assert "RecursionError" not in server.stderr()
    time.sleep(2)
    assert server.predict({"instances": [1]}).status_code == 200


def test_a_request_that_waits_keeps_its_own_headers_whatever_comes_behind_it(serve):
    server = serve("edges:Edges").ready()
    slow = b"".join(raw({"instances": ["slow"], "parameters": {"sleep": 0.5}}))
    lines = b"1\n2\n"
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/jsonlines\r\nContent-Length: %d\r\n\r\n"
    broken = b"POST /predict HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 0\r\n\r\n"
    with connect(server) as client:
        client.sendall(slow + head % len(lines) + lines + broken)
        data = read_until(client, 3)
    assert re.findall(rb"HTTP/1.1 (\d+) [A-Z]", data) == [b"200", b"200", b"400"]
    assert b'{"predictions":[1,2]}' in data


def test_streams_whose_clients_reset_give_their_places_back(serve):
    server = serve("edges:StreamsSlowly", CPR_SERVE_MAX_QUEUE="8").ready()
    for turn in range(40):
        client = connect(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"".join(raw({"count": 1000})))
        time.sleep(0.002 * (turn % 10))
        client.close()
    deadline = time.monotonic() + 20
    while True:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(server.predict, [{"count": 3}] * 6))
        if [answer.status_code for answer in answers] == [200] * 6:
            break
        assert time.monotonic() < deadline
    assert server.stderr() == ""


def test_failing_requests_leave_nothing_behind(serve):
    server = serve("fails:OnSomeRequests").ready()

    def resident():
        status = Path(f"/proc/{worker(server)}/smaps_rollup").read_text()
        return int(status.split("Rss:")[1].split()[0])

    body = {"instances": ["secret"], "ballast": "x" * 400_000}
    for _ in range(30):
        server.predict(body)
    before = resident()
    for _ in range(150):
        assert server.predict(body).status_code == 500
    assert resident() - before < 20_000


def worker(server):
    pid = server.process.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
