"""The guard alone, before a small application: what reaches it, what does not, and what a connection may cost."""

import asyncio
import contextlib
import json
import logging
import re
import socket
import threading
import time

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import MALFORMED
from uvicorn.server import ServerState
from wire import Wire, ask, chunked, predict, request

from cpr_kit.runtime.protocol import guarded
from cpr_kit.runtime.watch import Limits

KB, MB = 1024, 1024 * 1024
LIMITS = {"max_body": 100 * KB, "header_timeout": 0.6, "body_timeout": 1.5, "body_grace": 0.6, "write_timeout": 1}


class Echo:
    """Answers with what it was asked; `left` counts the clients that it saw leave before their answer."""

    def __init__(self):
        self.left = self.begun = 0
        self.go = threading.Event()

    async def __call__(self, scope, receive, send):
        self.begun += 1
        body = b""
        if scope["path"] != "/early":
            message = {"more_body": True}
            while message["more_body"]:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.left += 1
                    return
                body += message["body"]
        if scope["path"] == "/wait":
            leaving = asyncio.ensure_future(receive())
            while not leaving.done() and not self.go.is_set():
                await asyncio.sleep(0.01)
            if leaving.done():
                self.left += 1
                return
            leaving.cancel()
        text = b"x" * 20_000_000 if scope["path"] == "/big" else told(scope, body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
        if b"close" in scope["query_string"]:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


def told(scope, body):
    headers = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
    return json.dumps([scope["method"], scope["path"], headers, body.decode()]).encode()


class Guard:
    def __init__(self, server, app, port, watch):
        self.server, self.app, self.port, self.watch = server, app, port, watch

    def connections(self):
        return len(self.server.server_state.connections)


@pytest.fixture(scope="module")
def guards():
    """guards(**limits) -> a Guard that serves with them in a thread of its own, the same one for the same limits."""
    made = {}
    with contextlib.ExitStack() as stack:

        def guard(*, keep_alive=75, fresh=False, **limits):
            key = json.dumps([keep_alive, limits], sort_keys=True)
            if fresh or key not in made:
                made[key] = stack.enter_context(serving(keep_alive, limits))
            made[key].app.go.clear()
            return made[key]

        yield guard


@contextlib.contextmanager
def serving(keep_alive, limits):
    protocol, app = guarded(Limits(**{**LIMITS, **limits})), Echo()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=protocol, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=keep_alive
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Guard(server, app, listener.getsockname()[1], protocol.watch)
    finally:
        app.go.set()
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive(), "the server did not shut down"


@pytest.fixture
def guard(guards, caplog):
    """With the limits of this file. After each test it serves the next, and has logged nothing that floods a log."""
    guard = guards()
    yield guard
    assert ask(guard.port, request("GET", "/next")).status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def eventually(check, seconds=10):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


# What is no request


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_gets_its_status_in_the_form_of_errors_and_never_arrives(guard, name):
    data, status = MALFORMED[name]
    begun, refused = guard.app.begun, guard.watch.refused[status]
    with Wire(guard.port) as wire:
        answer = wire.send(data).answer()
        assert answer.status == status, answer
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"] == "application/json"
        error = answer.json()["error"]
        assert (error["code"], set(error)) == (status, {"code", "status", "message"})
        assert re.fullmatch(r"[A-Z_]+", error["status"])
        assert wire.ended()
    assert guard.watch.refused[status] == refused + 1
    if b"chunked" not in data:  # of those, the head was right
        assert guard.app.begun == begun


@pytest.mark.parametrize("name", [name for name, (data, _) in MALFORMED.items() if len(data) < 300])
def test_the_status_is_the_same_when_it_comes_byte_by_byte(name):
    data, status = MALFORMED[name]
    answers = driven([data[i : i + 1] for i in range(len(data))])
    # What the parser refuses in the middle of a word is no longer seen as a whole.
    vague = {"an unknown method", "a method in lower case", "HTTP 1.2", "HTTP 3", "the preface of HTTP 2"}
    assert statuses(answers) == ([400] if name in vague else [status])


def test_a_refusal_says_nothing_of_the_request(guard):
    for data in (
        b"GET /secret HTTP/1.1\r\nHost: a\r\nX-secret: a\0\r\n\r\n",
        b"secret\r\n\r\n",
        predict(b"secret", X="\0"),
    ):
        assert b"secret" not in ask(guard.port, data).body


# What is one


def test_a_request_arrives_as_it_was_sent(guard):
    sent = request("POST", "/a%20b?c=%zz", b'{"a": 1}', X_Name="v\xe9")
    headers = [["host", "model"], ["content-length", "8"], ["x-name", "v\xe9"]]
    assert ask(guard.port, sent).json() == ["POST", "/a b", headers, '{"a": 1}']


@pytest.mark.parametrize("target", ["http://model/health?x=1", "HTTP://model:80/health", "/health"])
def test_a_target_may_be_a_whole_url(guard, target):
    assert ask(guard.port, request("GET", target)).json()[1] == "/health"


def test_a_target_without_a_path_is_the_root(guard):
    assert ask(guard.port, request("GET", "http://model")).json()[1] == "/"
    assert ask(guard.port, request("GET", "http://model?x")).json()[1] == "/"


def test_http_1_0_needs_no_host_and_closes(guard):
    with Wire(guard.port) as wire:
        assert wire.send(request("GET", "/", version="1.0", Host=None)).answer().status == 200
        assert wire.ended()


def test_a_connection_is_kept_for_further_requests_of_any_kind(guard):
    with Wire(guard.port) as wire:
        for number in range(5):
            assert wire.send(request(body=b"%d" % number)).answer().json()[3] == str(number)
            assert wire.send(request("GET", f"/{number}")).answer().json()[1] == f"/{number}"
        assert wire.send(request("POST", "/4", Content_Length=None)).answer().status == 411


def test_an_empty_line_between_requests_is_no_request(guard):
    with Wire(guard.port) as wire:
        wire.send(request("GET", "/")).answer()
        wire.send(b"\r\n")
        time.sleep(3 * LIMITS["header_timeout"])
        assert wire.send(request("GET", "/")).answer().status == 200


def test_chunks_arrive_as_one_body_and_trailers_not_at_all(guard):
    body = chunked(b"ab", b"cd", trailers=b"Content-Type: evil\r\nX: y\r\n")
    sent = request(Content_Length=None, Transfer_Encoding="chunked") + body
    assert ask(guard.port, sent).json()[2:] == [[["host", "model"], ["transfer-encoding", "chunked"]], "abcd"]


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
@pytest.mark.parametrize("body", [b"", b"the body"])
def test_an_offer_of_another_protocol_is_passed_over_and_its_body_is_not(guard, protocol, body):
    offer = {"Connection": "Upgrade", "Upgrade": protocol}
    with Wire(guard.port) as wire:
        for sent in (request(body=body, **offer), request("GET", "/", **offer)):
            wire.send(sent + request("GET", "/after"))
            answer = wire.answer().json()
            assert answer[3] == (body.decode() if answer[0] == "POST" else "")
            assert wire.answer().json()[1] == "/after"


# Sizes


def test_a_body_too_large_is_refused_before_it_is_read(guard):
    assert ask(guard.port, request(Content_Length="200000")).status == 413
    assert ask(guard.port, request(body=b"x" * 100 * KB)).status == 200


@pytest.mark.parametrize(("begin", "status"), [(b"GET /", 414), (b"GET / HTTP/1.1\r\nX: ", 431)])
def test_headers_are_counted_as_they_arrive(guard, begin, status):
    assert ask(guard.port, begin, *[b"a" * 10_000] * 10).status == status


def test_chunks_are_counted_as_they_arrive(guard):
    head = request(Content_Length=None, Transfer_Encoding="chunked")
    piece = b"%x\r\n%b\r\n" % (10 * KB, b"x" * 10 * KB)
    with Wire(guard.port) as wire:
        assert wire.send(head, *[piece] * 11).answer().status == 413
    assert ask(guard.port, head + piece * 10 + b"0\r\n\r\n").status == 200


@pytest.mark.parametrize(
    "rest",
    [b";" + b"x" * 15_000 + b"\r\nX\r\n1", b"\r\nX\r\n0\r\n" + b"X: y\r\n" * 3000],
    ids=["extensions", "trailers"],
)
def test_what_chunks_carry_beside_data_is_bounded(guard, rest):
    head = request(Content_Length=None, Transfer_Encoding="chunked")
    with Wire(guard.port) as wire:
        with contextlib.suppress(OSError):
            wire.send(head, b"1", *[rest] + [rest.rpartition(b"\r\n0\r\n")[2] or rest] * 20)
        assert wire.answer().status == 400


def test_bodies_of_one_byte_chunks_are_read(guard):
    head = request(Content_Length=None, Transfer_Encoding="chunked")
    assert len(ask(guard.port, head + chunked(*[b"x"] * 50_000)).json()[3]) == 50_000


@pytest.mark.parametrize("size", [200 * KB, 50 * MB])
def test_a_client_that_writes_all_before_it_reads_still_reads_the_refusal(guard, size):
    with Wire(guard.port) as wire:
        assert wire.send(request(Content_Length=str(size)), b"x" * size).answer().status == 413
        assert wire.ended()


def test_an_early_answer_that_closes_is_read_after_the_whole_body_is_sent(guard):
    for connection in ("", "?close"):
        with Wire(guard.port) as wire:
            wire.send(request("POST", f"/early{connection}", Content_Length="100000"), b"x" * 40_000)
            time.sleep(0.05)
            assert wire.send(b"x" * 60_000).answer().status == 200
            if connection:
                assert wire.ended()
            else:
                assert wire.send(request("GET", "/next")).answer().json()[1] == "/next"


def test_expectations(guard):
    with Wire(guard.port) as wire:
        wire.send(request(Content_Length="4", Expect="100-continue"))
        assert wire.read.readline() == b"HTTP/1.1 100 Continue\r\n"
        wire.read.readline()
        assert wire.send(b"body").answer().json()[3] == "body"
    for refused, status in (({"Content_Length": "200000"}, 413), ({"Content_Length": None}, 411)):
        with Wire(guard.port) as wire:
            assert wire.send(request(Expect="100-continue", **refused)).answer().status == status
            assert wire.interim == 0


# Times


@pytest.mark.parametrize("begin", [b"P", b"POST /pre", b"POST / HTTP/1.1\r\nHost: model\r\nX-a: b\r\n"])
@pytest.mark.parametrize("before", [b"", request("GET", "/first")])
def test_headers_that_never_end_are_given_up(guard, begin, before):
    with Wire(guard.port) as wire:
        if before:
            wire.send(before).answer()
        wire.send(begin)
        assert wire.answer().status == 408
        assert wire.ended()


def test_headers_that_trickle_are_given_up_all_the_same(guard):
    with Wire(guard.port) as wire:
        began = time.monotonic()
        wire.send(b"GET / HTTP/1.1\r\n")
        while time.monotonic() < began + 8 and not wire.answered():
            wire.send(b"X: a\r\n")
            time.sleep(0.05)
        assert wire.answer().status == 408


@pytest.mark.parametrize(
    "framing", [{"Content_Length": "1000"}, {"Content_Length": None, "Transfer_Encoding": "chunked"}]
)
def test_bodies_that_never_end_are_given_up_and_the_application_knows(guard, framing):
    left = guard.app.left
    answer = ask(guard.port, request(**framing))
    assert answer.status == 408
    eventually(lambda: guard.app.left == left + 1)


def test_bodies_that_trickle_are_given_up_by_their_pace_or_their_time(guards):
    for limits, pause in (({"body_timeout": 30}, 0.1), ({"body_rate": 1.0}, 0.01)):
        guard = guards(**limits)
        with Wire(guard.port) as wire:
            began = time.monotonic()
            wire.send(request(Content_Length="100000"))
            while time.monotonic() < began + 15 and not wire.answered():
                wire.send(b"x")
                time.sleep(pause)
            assert wire.answer().status == 408


def test_a_slow_body_that_keeps_the_pace_is_read(guard):
    with Wire(guard.port) as wire:
        wire.send(request(Content_Length="1000"))
        for _ in range(10):
            time.sleep(0.1)
            wire.send(b"x" * 100)
        assert wire.answer().status == 200


def test_an_idle_connection_is_closed_without_a_word(guards):
    guard = guards(keep_alive=1)
    with Wire(guard.port) as silent, Wire(guard.port) as used:
        used.send(request("GET", "/")).answer()
        assert silent.ended()
        assert used.ended()


@pytest.mark.parametrize(("target", "count"), [("/big", 1), ("/small", 1), ("/small", 50_000)])
def test_a_client_that_never_reads_is_given_up(guards, target, count):
    guard = guards(keep_alive=1)
    eventually(lambda: guard.connections() == 0)
    with Wire(guard.port, buffer=4096) as wire:
        wire.socket.settimeout(1)
        with contextlib.suppress(OSError):
            wire.send(request("GET", target) * count)
        eventually(lambda: guard.connections() == 0)


# Clients that leave, by half or wholly


def test_a_client_that_closes_its_half_still_gets_its_answer(guard):
    for sent in (request("GET", "/wait"), request("POST", "/wait", b"{}"), request("GET", "/wait", version="1.0")):
        guard.app.go.clear()
        with Wire(guard.port) as wire:
            wire.send(sent).socket.shutdown(socket.SHUT_WR)
            time.sleep(0.3)
            guard.app.go.set()
            assert wire.answer().json()[1] == "/wait"
            assert wire.ended()


def test_a_client_that_closes_its_half_after_many_requests_gets_all_answers(guard):
    with Wire(guard.port) as wire:
        wire.send(b"".join(request("GET", f"/{number}") for number in range(2000)))
        wire.socket.shutdown(socket.SHUT_WR)
        assert [wire.answer().json()[1] for _ in range(2000)] == [f"/{number}" for number in range(2000)]
        assert wire.ended()


@pytest.mark.parametrize("pipelined", [b"", request("GET", "/2") * 3])
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_the_application_sees_a_client_that_leaves(guard, how, pipelined):
    left = guard.app.left
    begun = guard.app.begun
    wire = Wire(guard.port).send(request("GET", "/wait") + pipelined)
    eventually(lambda: guard.app.begun == begun + 1)
    if how == "reset":
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wire.close()
    eventually(lambda: guard.app.left == left + 1)


@pytest.mark.parametrize("begin", [b"GET / HT", request(Content_Length="10") + b"x"])
def test_a_request_cut_short_by_its_client_is_refused(guard, begin):
    with Wire(guard.port) as wire:
        wire.send(begin).socket.shutdown(socket.SHUT_WR)
        assert wire.answer().status == 400
        assert wire.ended()


# Pipelining


def test_pipelined_requests_are_answered_in_order(guard):
    with Wire(guard.port) as wire:
        wire.send(b"".join(request("POST", f"/{number}", b"%d" % number) for number in range(200)))
        assert [wire.answer().json()[3] for _ in range(200)] == [str(number) for number in range(200)]


def test_a_flood_of_pipelined_requests_waits_in_the_socket_and_not_in_memory(guard):
    begun = guard.app.begun
    with Wire(guard.port) as wire:
        wire.socket.settimeout(1)
        with contextlib.suppress(OSError):
            wire.send(request("GET", "/wait") + request("GET", "/n") * 400_000)
        (protocol,) = [each for each in guard.server.server_state.connections if each.pipeline]
        assert len(protocol.pipeline) < 1000
        assert len(protocol._held) < 600_000
        assert guard.app.begun == begun + 1
    guard.app.go.set()
    eventually(lambda: guard.connections() == 0)


@pytest.mark.parametrize(
    "bad",
    [
        b"nonsense\r\n\r\n",
        request(Content_Length="200000"),
        request(Content_Length=None, Transfer_Encoding="chunked") + b"zz\r\n",
    ],
)
def test_requests_before_a_bad_one_are_answered_first(guard, bad):
    with Wire(guard.port) as wire:
        wire.send(request("GET", "/wait") + request("GET", "/2") + bad + request("GET", "/4"))
        time.sleep(0.1)
        guard.app.go.set()
        assert [wire.answer().json()[1] for _ in range(2)] == ["/wait", "/2"]
        assert wire.answer().status in (400, 413)
        assert wire.ended()


# The server's own end, and its bounds


def test_connections_beyond_the_limit_are_told_so(guards):
    guard = guards(max_connections=3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Wire(guard.port)).send(request("GET", "/")).answer()
        answer = stack.enter_context(Wire(guard.port)).send(request("GET", "/")).answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    eventually(lambda: guard.connections() == 0)
    assert ask(guard.port, request("GET", "/")).status == 200


def test_a_shutdown_answers_what_has_begun_and_closes_the_rest(guards):
    guard = guards(fresh=True, header_timeout=10, body_grace=10, body_timeout=10)
    with Wire(guard.port) as idle, Wire(guard.port) as head, Wire(guard.port) as body, Wire(guard.port) as works:
        idle.send(request("GET", "/")).answer()
        head.send(b"GET /head HT")
        body.send(request("POST", "/body", Content_Length="4"))
        works.send(request("GET", "/wait") + request("GET", "/2"))
        eventually(lambda: guard.app.begun == 3)
        guard.server.should_exit = True
        assert idle.ended()
        guard.app.go.set()
        for wire, rest, targets in (
            (head, b"TP/1.1\r\nHost: model\r\n\r\n", ["/head"]),
            (body, b"rest", ["/body"]),
            (works, b"", ["/wait", "/2"]),
        ):
            assert [wire.send(rest).answer().json()[1] for _ in targets] == targets
            assert wire.ended()


# However the network cuts it


MESSAGES = {
    "get": request("GET", "/a"),
    "post": request("POST", "/b", b'{"instances": [[1, 2]]}'),
    "empty": request("POST", "/c"),
    "chunked": request("POST", "/d", Content_Length=None, Transfer_Encoding="chunked")
    + chunked(b"12", b"3", trailers=b"T: v\r\n"),
    "upgrade": request("POST", "/e", b"body", Connection="Upgrade", Upgrade="h2c"),
    "large": request("POST", "/f", b"x" * 40_000),
    "blank": b"\r\n\r\n" + request("GET", "/g"),
}


@settings(deadline=None, max_examples=60)
@given(names=st.lists(st.sampled_from(sorted(MESSAGES)), min_size=1, max_size=6), data=st.data())
def test_requests_are_the_same_however_they_are_cut(names, data):
    whole = b"".join(MESSAGES[name] for name in names)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)])]
    expected = b"".join(driven([MESSAGES[name]]) for name in names)
    assert driven(pieces) == expected


@settings(deadline=None, max_examples=150)
@given(pieces=st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(sorted(MESSAGES.values()))), max_size=6))
def test_whatever_arrives_is_answered_or_refused(pieces):
    assert set(statuses(driven(pieces))) <= {200, 400, 411, 413, 414, 417, 431, 501, 505}


def statuses(data):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", data)]


class Written(asyncio.Transport):
    """Keeps what is written, so that the cuts are where the test puts them and not where the network does."""

    def __init__(self):
        super().__init__()
        self.data, self.closed = b"", False

    def write(self, data):
        self.data += data

    def close(self):
        self.closed = True

    abort = close

    def is_closing(self):
        return self.closed

    def can_write_eof(self):
        return False

    def pause_reading(self): ...

    resume_reading = pause_reading


def driven(pieces):
    """All that the guard writes when these pieces arrive one after the other."""

    async def drive():
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(Echo(), lifespan="off", log_config=None, access_log=False)
        config.load()
        protocol, transport = guarded(Limits(**LIMITS))(config, ServerState(), {}, loop), Written()
        protocol.connection_made(transport)
        for piece in pieces:
            if not transport.closed:
                protocol.data_received(piece)
            for _ in range(4):
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        await asyncio.gather(*protocol.tasks)
        return transport.data

    return asyncio.run(drive())
