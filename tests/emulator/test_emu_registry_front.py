"""What stands before the registry, here before a server that repeats what it gets."""

import contextlib
import socket
import socketserver
import threading

import pytest


from cpr_kit.emulator import registry_front


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while piece := self.request.recv(1 << 16):
            self.request.sendall(piece)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass


@pytest.fixture
def port(tmp_path):
    with Server(str(tmp_path / "s"), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with registry_front.serving(tmp_path / "s") as port:
                yield port
        finally:
            server.shutdown()
            thread.join()


def asked(port, data):
    """All that comes back; the sender has ended by then."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as there:
        sending = threading.Thread(target=send, args=(there, data))
        sending.start()
        found = b""
        while piece := there.recv(1 << 16):
            found += piece
        sending.join()
    return found


def send(there, data):
    with contextlib.suppress(OSError):  # a refusal does not wait for the rest
        there.sendall(data)
        there.shutdown(socket.SHUT_WR)


def head(*fields):
    return "\r\n".join(("GET /v2/ HTTP/1.1", *fields, "", "")).encode()


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "localhost:5000", "LOCALHOST", "127.0.0.1"])
def test_an_engine_is_let_in_and_its_bytes_are_passed_on(port, host):
    data = head(f"Host: {host}", "User-Agent: docker/20.10") + bytes(range(256)) * 20_000
    assert asked(port, data) == data


@pytest.mark.parametrize(
    "fields",
    [
        ("Host: evil.example:5000",),
        ("Host: 127.0.0.1.evil.example",),
        ("Host: 127.0.0.1", "Host: evil.example"),
        ("host:evil.example",),
        (),
        ("Host: 127.0.0.1:5000", "Origin: https://evil.example"),
        ("Host: 127.0.0.1:5000", "oRIGIN: null"),
        ("Host: 127.0.0.1:5000", "Sec-Fetch-Site: cross-site"),
        ("Host: 127.0.0.1:5000", "User-Agent: Mozilla/5.0 (X11)"),
    ],
)
def test_a_browser_is_refused(port, fields):
    assert asked(port, head(*fields)).startswith(b"HTTP/1.1 403 ")


def test_tls_is_refused_before_its_client_waits(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as there:
        there.sendall(b"\x16\x03\x01\x02\x00")
        assert there.recv(1 << 16).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("data", [b"", b"GET /v2/ HTTP/1.1\r\nHost: 127.0", b"x" * 200_000])
def test_what_is_no_head_gets_nothing(port, data):
    with contextlib.suppress(ConnectionError):
        assert asked(port, data) == b""


def test_its_end_ends_what_is_being_passed_on(tmp_path):
    with Server(str(tmp_path / "s"), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with registry_front.serving(tmp_path / "s") as port:
            there = socket.create_connection(("127.0.0.1", port), timeout=20)
            there.sendall(head("Host: 127.0.0.1"))
            assert there.recv(1)
        with there, contextlib.suppress(ConnectionError):
            while there.recv(1 << 16):
                pass
        server.shutdown()
        thread.join()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", port), timeout=20)
