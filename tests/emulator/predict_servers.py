"""For the tests of the data path: servers that behave as containers might, and what stands between.

`Replicas` stands in for serving.DeployedContainer: here only its choice of a replica matters, and the real one
would start an image for each of these servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from dataclasses import dataclass, field

import pytest
import uvicorn

from cpr_kit.emulator.errors import ApiError
from cpr_kit.emulator.predict.calls import Predictions
from cpr_kit.emulator.predict.containers import open_session
from cpr_kit.emulator.predict.target import DeployedModel, Endpoint

MODEL = "projects/123/locations/us-central1/models/m"
NAME = "projects/123/locations/us-central1/endpoints/77"
JSON = {"content-type": "application/json"}
WHO = {
    "x-vertex-ai-endpoint-id": "77",
    "x-vertex-ai-deployed-model-id": "5",
    "x-vertex-ai-model": MODEL,
    "x-vertex-ai-model-version-id": "2",
}
BYTES = b"\x00\xff not JSON"
BODY = b'{"instances": [1, [2, "x"]], "parameters": {"k": 3}}'


@dataclass
class Replica:
    base_url: str
    predict_route: str = "/predict"
    in_flight: int = 0
    failures: int = 0
    breaks: int = 0

    @contextlib.contextmanager
    def busy(self):
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def failed(self):
        self.failures += 1

    def broke(self):
        self.breaks += 1


class Replicas:
    """The first that has not failed."""

    def __init__(self, *replicas):
        self.replicas = replicas

    def choose(self):
        return next((replica for replica in self.replicas if not replica.failures), None)


@dataclass
class Seen:
    path: str
    headers: dict
    body: bytes


@dataclass
class Server:
    """One ASGI server; `answer` is what it says to the next requests."""

    url: str = ""
    seen: list = field(default_factory=list)
    answer: object = None
    gone: threading.Event = field(default_factory=threading.Event)

    def says(self, body=b'{"predictions": [1, 2]}', status=200, headers=JSON):
        async def answer(receive, send):
            listed = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": status, "headers": listed})
            await send({"type": "http.response.body", "body": body})

        self.answer = answer

    async def app(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        target = scope["raw_path"].decode() + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        self.seen.append(Seen(target, headers, body))
        await self.answer(receive, send)


@pytest.fixture(scope="module")
def running():
    server = Server()
    config = uvicorn.Config(server.app, port=0, interface="asgi3", lifespan="off", log_level="warning", ws="none")
    uv = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=uv.run, kwargs={"sockets": [listening]})
    thread.start()
    server.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    yield server
    uv.should_exit = True
    thread.join(10)
    listening.close()


@pytest.fixture
def server(running):
    running.seen.clear()
    running.gone.clear()
    running.says()
    return running


@pytest.fixture
def replica(server):
    made = Replica(server.url)
    yield made
    assert made.in_flight == 0


def endpoint(*replicas, kind="public", timeout_s=600.0, **fields):
    model = DeployedModel(
        id="5", model=MODEL, version="2", display_name="iris", container=Replicas(*replicas), **fields
    )
    return Endpoint(name=NAME, kind=kind, timeout_s=timeout_s, traffic={"5": 100}, models={"5": model})


def run(call, settings=None):
    """`call` gets a Predictions on a loop of its own."""

    async def main():
        async with open_session() as session:
            return await call(Predictions(session, settings, random.Random(1)))

    return asyncio.run(main())


def refused(call, settings=None):
    with pytest.raises(ApiError) as caught:
        run(call, settings)
    return caught.value


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def dying(answer, *, keeps=False):
    """A server that answers one request and closes; with `keeps`, it closes once it has got the next one whole."""
    requests = []

    def serve():
        while True:
            connection, _ = listening.accept()
            with connection:
                while data := connection.recv(65536):
                    if data == b"END":
                        return
                    if not data.startswith(b"POST"):
                        continue  # the rest of a request
                    requests.append(data)
                    if len(requests) > 1:
                        break
                    connection.sendall(answer)
                    if not keeps:
                        break

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Replica(f"http://127.0.0.1:{listening.getsockname()[1]}"), requests
        finally:
            with socket.create_connection(listening.getsockname()) as last:
                last.sendall(b"END")
            thread.join(10)


@pytest.fixture
def slow(server):
    """It sends "one", and "two" only once `slow.set()` was called; it notices whoever leaves."""
    go_on = threading.Event()

    async def answer(receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        left = asyncio.ensure_future(receive())
        waits = asyncio.ensure_future(asyncio.to_thread(go_on.wait, 20))
        await asyncio.wait([left, waits], return_when=asyncio.FIRST_COMPLETED)
        if left.done():
            server.gone.set()
            go_on.set()
        await waits
        left.cancel()
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"two"})

    server.answer = answer
    return go_on
