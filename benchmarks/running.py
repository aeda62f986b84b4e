"""A server from its start to its end: started, asked once, given to the caller, stopped with all its processes."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import processes
from environments import HERE, Environment, NotHere
from load import Request, ask

APPS = HERE / "apps"
START_S = 120
MODELS = ("iris", "wide", "forest")
# These two tell OpenBLAS to compute as on another processor; some machines have them set, and numpy is slow then.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONPATH", "PYTHONSTARTUP")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a server is to serve: a model of models.py or a work of work.py, and by which class of its app."""

    model: str
    predictor: str = ""
    deadline: float | None = None
    onnx: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server is started: the folder of its model, a folder of its own to write into, a port."""

    models: Path
    folder: Path
    port: int
    job: Job

    @property
    def model(self) -> Path:
        return self.models / self.job.model


@dataclass(frozen=True, kw_only=True)
class Launch:
    command: list[str | Path]
    environ: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Server:
    """`start` is pure: it says how to start, and writes no more than settings into the place's folder."""

    name: str
    environment: Environment
    start: Callable[[Path, Place], Launch]
    path: str = "/predict"
    health: str = "/health"
    body: str = "body.json"
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Running:
    server: Server
    place: Place
    pid: int
    started: float

    @property
    def health(self) -> Request:
        return Request(port=self.place.port, path=self.server.health, method="GET")

    def request(self, body: Path | None = None, content_type: str = "application/json") -> Request:
        body = body or self.place.model / self.server.body
        return Request(port=self.place.port, path=self.server.path, body=body, content_type=content_type)


@contextlib.contextmanager
def serving(server: Server, place: Place) -> Iterator[Running]:
    """A server that has answered its first request, rightly where that is known. Raises NotHere, with its log's end."""
    place.folder.mkdir(parents=True, exist_ok=True)
    launch = server.start(server.environment.python, place)
    environ = {name: value for name, value in os.environ.items() if name not in UNSET}
    environ |= {"PYTHONPATH": str(APPS), "BENCH_MODEL": place.job.model, "BENCH_FOLDER": str(place.model)}
    environ |= {"BENCH_PORT": str(place.port)} | launch.environ
    log = place.folder / "log"
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            launch.command, cwd=place.folder, env=environ, stdout=output, stderr=output, start_new_session=True
        )
    try:
        running = Running(server=server, place=place, pid=process.pid, started=0)
        first(running, process, log)
        yield Running(server=server, place=place, pid=process.pid, started=time.monotonic() - began)
    finally:
        stop(process)


def first(running: Running, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for health, then ask for one prediction."""
    name, until = running.server.name, time.monotonic() + START_S
    while ask(running.health)[0] != 200:
        if process.poll() is not None or time.monotonic() > until:
            raise NotHere(f"{name} did not start: {last_words(log)}")
        time.sleep(0.005)
    status, answer = ask(running.request(small_body(running.place, running.server)))
    if status != 200:
        raise NotHere(f"{name} answered {status} to its first request: {answer[:200]!r} {last_words(log)}")
    expected = running.place.model / "expected.json"
    if expected.exists() and predictions(answer) not in (json.loads(expected.read_text()), None):
        raise NotHere(f"{name} answered wrongly: {answer[:200]!r}")


def small_body(place: Place, server: Server) -> Path:
    """The model's own request, or one row of one number for a work that is no model."""
    if place.job.model in MODELS:
        return place.model / server.body
    work = {"slow": [["sleep", 0]]}.get(place.job.model, [[0]])
    tensor = {"name": "predict", "shape": [1, 1], "datatype": "FP64", "data": [0]}
    body = place.folder / server.body
    body.write_text(json.dumps({"inputs": [tensor]} if "v2" in server.body else {"instances": work}))
    return body


def predictions(answer: bytes) -> Any:
    """The predictions in any of the peers' forms; None for the bare server, which has none."""
    value = json.loads(answer)
    if isinstance(value, dict):
        value = value["outputs"][0]["data"] if "outputs" in value else value.get("predictions", value.get("output"))
    return value


def last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip(" ^~")]
    return " / ".join(lines[-3:])[-400:]


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the server, then SIGKILL to whatever of its own tree is left."""
    tree = processes.tree(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=15)
    for each in tree:
        if each.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
    process.wait()
