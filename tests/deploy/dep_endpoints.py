"""For the tests that ask endpoints: the emulator's data plane with an endpoint of each kind, and servers that misbehave."""

import contextlib
import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import google.auth.credentials
import pytest

# The model server that does what a request asks for belongs to the emulator's tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "emulator"))

from emu_data_plane import PROJECT, gate, plane  # noqa: F401 - gate is a fixture of its users

from cpr_kit.deploy.resources import Endpoint
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.engine.choose import choose

ADDRESS = "10.1.2.3"
"""Any private one leads to the emulator's psc endpoints."""


@pytest.fixture(scope="module")
def vertex_plane(tmp_path_factory):
    with plane(choose("process").engine, tmp_path_factory.mktemp("plane")) as made:
        yield made


def body(*orders, **parameters):
    return json.dumps({"instances": list(orders), **({"parameters": parameters} if parameters else {})}).encode()


def endpoint_of(vertex_plane, kind, region="us-central1"):
    """As the kit finds it, by the id of one that the SDK made."""
    return Vertex(PROJECT, region).endpoint(vertex_plane.endpoint(kind, "rest").name)


class Token(google.auth.credentials.Credentials):
    """Credentials whose tokens are t1, t2, ...; `problem` is raised instead of a new one."""

    def __init__(self, problem=None):
        super().__init__()
        self.count = 0
        self.problem = problem

    def refresh(self, request):
        if self.problem:
            raise self.problem
        self.count += 1
        self.token = f"t{self.count}"


class Front:
    """A server in the place of Vertex AI's: it gives `answers` in turn, the last one again and again.

    An answer is (status, content, headers), or a callable that gets the handler.
    """

    def __init__(self, *answers, tls=None):
        self.seen = []
        self.answers = list(answers)
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                front.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, sent))
                answer = front.answers.pop(0) if len(front.answers) > 1 else front.answers[0]
                if callable(answer):
                    answer(self)
                    return
                status, content, *more = answer
                self.send_response(status)
                for name, value in (more[0] if more else {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST

            def log_message(self, *words):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.override = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


PREDICTION = b'{"predictions": [1], "deployedModelId": "7"}'


def connected(name="e"):
    """A psc endpoint: its override leads to whatever stands in its place."""
    return Endpoint(id=name, name=f"projects/1/locations/us-central1/endpoints/{name}", display_name=name, kind="psc")


@contextlib.contextmanager
def hung_up():
    """A server that takes a request and closes the connection."""

    def end(handler):
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    with Front(end) as front:
        yield front
