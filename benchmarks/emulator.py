"""What the emulator's data path costs: predict through it against the container itself, asked in turn.

    python benchmarks/emulator.py [--pairs 2000]

The container is a bare server of one process, the emulator a bare server around `Predictions.predict_json`; both
under uvicorn with uvloop, each a process of its own. Prints medians in ms, then requests a second (needs wrk).
"""

import argparse
import contextlib
import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import load
import orjson
import uvicorn
from processes import free_port

from cpr_kit.emulator.predict.calls import Predictions
from cpr_kit.emulator.predict.containers import open_session
from cpr_kit.emulator.predict.target import DeployedModel, Endpoint

BODIES = {
    "1 row of 4": {"instances": [[5.1, 3.5, 1.4, 0.2]]},
    "100 rows of 100": {"instances": [[row + column / 7 for column in range(100)] for row in range(100)]},
}
KINDS = ("public", "dedicated")


async def answer(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read(receive: Any) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


async def container(_: Any, receive: Any, send: Any) -> None:
    """The sum of each row."""
    instances = orjson.loads(await read(receive))["instances"]
    await answer(send, 200, orjson.dumps({"predictions": [sum(row) for row in instances]}))


class Replica:
    """Stands for serving's: always the same one, always ready."""

    predict_route = "/predict"

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def choose(self) -> "Replica":
        return self

    def busy(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def failed(self) -> None:
        pass


class DataPath:
    """`/KIND`: predict at an endpoint of that kind."""

    def __init__(self, url: str) -> None:
        self._replica = Replica(url)
        self._predictions: Predictions | None = None
        self._endpoints = {f"/{kind}": self._endpoint(kind) for kind in KINDS}

    def _endpoint(self, kind: Any) -> Endpoint:
        name = "projects/123/locations/us-central1"
        model = DeployedModel(id="1", model=f"{name}/models/1", version="1", display_name="m", container=self._replica)
        return Endpoint(name=f"{name}/endpoints/1", kind=kind, timeout_s=60, traffic={"1": 100}, models={"1": model})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._predictions is None:
            self._predictions = Predictions(open_session())
        found = await self._predictions.predict_json(self._endpoints[scope["path"]], await read(receive))
        await answer(send, found.status, found.body)


@contextlib.contextmanager
def process(role: str, *arguments: str) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, __file__, "--role", role, "--port", str(port), *arguments]
    with subprocess.Popen(command) as running:
        try:
            deadline = time.monotonic() + 30
            path = "/predict" if role == "container" else "/public"
            while ask(http.client.HTTPConnection("127.0.0.1", port), path, BODIES["1 row of 4"]) is None:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{role} did not start")
                time.sleep(0.05)
            yield port
        finally:
            running.terminate()


def ask(connection: http.client.HTTPConnection, path: str, body: Any) -> float | None:
    """Milliseconds; None where nobody answers."""
    data = orjson.dumps(body)
    start = time.perf_counter()
    try:
        connection.request("POST", path, data, {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    except OSError:
        return None
    took = (time.perf_counter() - start) * 1000
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status} {content[:200]!r}")
    return took


def pairs(direct: int, through: int, count: int) -> None:
    """Direct and through in turn, so that whatever else the machine does falls on both."""
    ways = [(direct, "/predict"), *((through, f"/{kind}") for kind in KINDS)]
    print(f"{'ms at the median':24}{'container':>12}" + "".join(f"{kind:>12}{'added':>8}" for kind in KINDS))
    for title, body in BODIES.items():
        connections = [http.client.HTTPConnection("127.0.0.1", port) for port, _ in ways]
        times: list[list[float]] = [[] for _ in ways]
        for _ in range(count):
            for way, connection, taken in zip(ways, connections, times, strict=True):
                taken.append(ask(connection, way[1], body) or 0.0)
        base, *others = (statistics.median(taken[count // 10 :]) for taken in times)
        print(f"{title:24}{base:12.2f}" + "".join(f"{other:12.2f}{other - base:8.2f}" for other in others))


def rates(direct: int, through: int) -> None:
    for title, body in BODIES.items():
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            Path(file.name).write_text(json.dumps(body))
            found = [
                load.closed(load.Request(port=port, path=path, body=Path(file.name)), connections=16, seconds=5)
                for port, path in [(direct, "/predict"), *((through, f"/{kind}") for kind in KINDS)]
            ]
        print(
            f"{title:24}" + "".join(f"{each.rate:10.0f}/s" for each in found), f"failed {sum(e.failed for e in found)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--role", choices=["container", "emulator"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--url")
    given = parser.parse_args()
    if given.role:
        app = container if given.role == "container" else DataPath(given.url)
        settings: Any = {"lifespan": "off", "access_log": False, "log_level": "error", "loop": "uvloop"}
        uvicorn.run(app, host="127.0.0.1", port=given.port, interface="asgi3", **settings)
        return
    with process("container") as direct, process("emulator", "--url", f"http://127.0.0.1:{direct}") as through:
        pairs(direct, through, given.pairs)
        if shutil.which("wrk"):
            rates(direct, through)


if __name__ == "__main__":
    main()
