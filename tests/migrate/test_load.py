"""The closed loop against real sockets: it counts answers, keeps connections, and stops at what is no 200."""

import contextlib
import http.server
import socket
import threading

import pytest

from cpr_kit.errors import PredictionError
from cpr_kit.migrate import load

BODY = b'{"instances": [1]}'


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.client_address[1], self.path, self.headers["Content-Type"], body))
        status = self.server.status(len(self.server.asked))
        self.send_response(status)
        if self.server.closing:
            self.send_header("Connection", "close")
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"2\r\n{}\r\n0\r\n\r\n")
        else:
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(status=lambda _: 200, *, closing=False, chunked=False):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.status, server.closing, server.chunked = [], status, closing, chunked
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def rate(port, **options):
    request = load.Request(port=port, path="/predict", body=BODY, content_type="application/json")
    return load.rate(request, **{"connections": 4, "seconds": 0.3, **options})


@pytest.mark.parametrize("chunked", [False, True])
def test_each_connection_asks_again_and_again(chunked):
    with serving(chunked=chunked) as server:
        found = rate(server.server_address[1])

    assert found > 0
    assert {entry[1:] for entry in server.asked} == {("/predict", "application/json", BODY)}
    assert len({port for port, *_ in server.asked}) == 4
    assert len(server.asked) > 8


def test_a_connection_that_the_server_closes_is_opened_again():
    with serving(closing=True) as server:
        assert rate(server.server_address[1], connections=1) > 0
    assert len({port for port, *_ in server.asked}) == len(server.asked) > 2


def test_an_answer_that_is_no_200_ends_it():
    with serving(lambda number: 500 if number == 7 else 200) as server, pytest.raises(PredictionError) as caught:
        rate(server.server_address[1], seconds=20)
    assert caught.value.status_code == 500


def test_nobody_there_is_said():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(PredictionError, match="takes no connection"):
        rate(port)


def test_a_server_that_only_hangs_up_is_said():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up():
            with contextlib.suppress(OSError):
                while True:
                    listening.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        with pytest.raises(PredictionError, match="without an answer"):
            rate(listening.getsockname()[1])
