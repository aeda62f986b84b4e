"""What is measured: one function for each group of rows, called with one server, in turns. Times are milliseconds."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import load
import processes
from environments import HERE, NotHere
from images import images
from running import Job, Place, Running, Server, serving
from servers import KIT, ROOT, SERVERS

Values = dict[str, float]

WARM_S = 1
PAIR_S = 1
PAIRS = 5
SLOW_S = 3
PROBES_PER_S = 20
OVERLOAD = 5
DEADLINE_S = 1
IDLE_S = 20
FORBIDDEN = ("google", "docker", "fastapi")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A run. `seconds` is the length of one closed-loop measurement, `long` that of the overload."""

    models: Path
    scratch: Path
    seconds: float = 4
    long: float = 10
    predicts: int = 3
    idle: float = IDLE_S
    started: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.contextmanager
    def serving(self, server: Server, job: Job) -> Iterator[Running]:
        folder = self.scratch / f"{next(self.numbers)}-{server.name}"
        place = Place(models=self.models, folder=folder, port=processes.free_port(), job=job)
        with serving(server, place) as running:
            self.started.add(server.name)
            yield running

    def closed(self, request: load.Request, connections: int) -> load.Closed:
        """Raises NotHere when a request was not answered 200: such a rate says nothing."""
        done = load.closed(request, connections=connections, seconds=self.seconds)
        if done.failed:
            raise NotHere(f"{done.failed} requests failed at {connections} connections")
        return done


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What is asked again and again of servers that are up at once, by those of `servers` that take part."""

    model: str
    run: Callable[[Bench, Running], Values]
    servers: tuple[str, ...]


def iris(bench: Bench, server: Server) -> Values:
    with bench.serving(server, Job(model="iris")) as running:
        load.closed(running.request(), connections=16, seconds=WARM_S)
        return iris_burst(bench, running)


def iris_burst(bench: Bench, running: Running) -> Values:
    at_64, at_16, at_1 = (bench.closed(running.request(), number) for number in (64, 16, 1))
    return {"rate64": at_64.rate, "p99_64": at_64.p99, "rate16": at_16.rate, "median1": at_1.p50, "rate1": at_1.rate}


def author(bench: Bench, server: Server) -> Values:
    """The class an author brings along from upstream, as it is, and with `max_batch_rows = 64`."""
    values = {}
    for predictor in ("Author", "Joined"):
        with bench.serving(server, Job(model="iris", predictor=predictor)) as running:
            load.closed(running.request(), connections=16, seconds=WARM_S)
            values[predictor.lower()] = bench.closed(running.request(), 64).rate
    return values


def wide(bench: Bench, server: Server) -> Values:
    """32 rows of 784 floats as JSON, 16 connections."""
    with bench.serving(server, Job(model="wide")) as running:
        load.closed(running.request(), connections=4, seconds=WARM_S)
        return wide_burst(bench, running)


def wide_burst(bench: Bench, running: Running) -> Values:
    return {"json": bench.closed(running.request(), 16).rate}


def pairs(bench: Bench, burst: Burst, servers: list[Server]) -> Iterator[tuple[str, Values]]:
    """Servers of one model that are all up at once, asked in short turns: this machine's speed changes within minutes,
    and a ratio of what was measured minutes apart says more of that than of the servers.
    """
    short = dataclasses.replace(bench, seconds=PAIR_S)
    with contextlib.ExitStack() as stack:
        up = {server.name: stack.enter_context(bench.serving(server, Job(model=burst.model))) for server in servers}
        for number in range(PAIRS):
            for name in list(up) if number % 2 == 0 else list(up)[::-1]:
                # Each time: a kernel may take an idle process's memory away, and its return is not what is measured.
                load.closed(up[name].request(), connections=16, seconds=WARM_S)
                yield name, burst.run(short, up[name])


def npy(bench: Bench, server: Server) -> Values:
    """The same rows as npy, which Google's server does not read: its JSON is what they are set against."""
    with bench.serving(server, Job(model="wide")) as running:
        request = running.request(running.place.model / "body.npy", "application/x-npy")
        load.closed(request, connections=4, seconds=WARM_S)
        return {"npy": bench.closed(request, 16).rate}


def forest(bench: Bench, server: Server) -> Values:
    """RandomForest(100): the kit serves model.onnx, everyone else model.joblib."""
    with bench.serving(server, Job(model="forest", onnx=server.name == "cpr_kit")) as running:
        load.closed(running.request(), connections=1, seconds=WARM_S)
        return {"rate1": bench.closed(running.request(), 1).rate}


def health(bench: Bench, server: Server) -> Values:
    """p99 of health at 20 Hz while 3 s predicts follow one another; the worse of fresh and kept connections."""
    values = {}
    with bench.serving(server, Job(model="slow")) as running:
        for kind in ("sleep", "python", "numpy"):
            body = running.place.folder / f"{kind}.json"
            body.write_text(json.dumps({"instances": [[kind, SLOW_S]]}))
            probes = {"rate": PROBES_PER_S, "seconds": bench.predicts * SLOW_S - 0.5, "even": True, "give_up": 30}
            with predicting(running.request(body)):
                generators = [
                    load.open_loop(KIT.python, running.health, fresh=fresh, **probes) for fresh in (True, False)
                ]
                fresh, kept = (load.result(generator) for generator in generators)
            values |= {f"{kind}_fresh": p99(fresh), f"{kind}_kept": p99(kept)}
            values[kind] = max(p99(fresh), p99(kept))
    return values


def p99(seen: dict[str, Any]) -> float:
    """Infinite where a probe was not answered with 200."""
    return seen["answers"]["p99"] if set(seen["statuses"]) == {"200"} else math.inf


@contextlib.contextmanager
def predicting(request: load.Request) -> Iterator[None]:
    """One predict after the other, until the block has ended; the first is under way when it begins."""
    over = threading.Event()

    def predict() -> None:
        while not over.is_set() and load.ask(request)[0] == 200:
            pass

    thread = threading.Thread(target=predict)
    thread.start()
    time.sleep(0.2)
    try:
        yield
        if not thread.is_alive():
            raise NotHere("a slow predict was not answered 200")
    finally:
        over.set()
        thread.join()


def overload(bench: Bench, server: Server) -> Values:
    """Peak by a closed loop, then five times that by an open one. A request costs 5 ms of CPU; nothing is batched."""
    values = {}
    for kind in ("numpy", "python"):
        with bench.serving(server, Job(model=f"busy_{kind}", deadline=DEADLINE_S)) as running:
            body = running.place.folder / "body.json"
            load.closed(running.request(body), connections=4, seconds=WARM_S)
            peak = load.closed(running.request(body), connections=8, seconds=bench.seconds).rate
            time.sleep(0.5)
            plan = {"rate": OVERLOAD * peak, "seconds": bench.long, "deadline": DEADLINE_S}
            seen = load.result(load.open_loop(KIT.python, running.request(body), **plan))
        values |= {
            f"{kind}_peak": peak,
            f"{kind}_share": seen["goodput"] / peak,
            f"{kind}_refusal": seen["refusals"].get("p99", math.nan),
            f"{kind}_late": seen["late"],
            f"{kind}_unanswered": seen["unanswered"],
            f"{kind}_p99": seen["answers"].get("p99", math.nan),
            f"{kind}_lag": seen["lag"]["p99"],
        }
    return values


def start(bench: Bench, server: Server) -> Values:
    """From the start of the process to the first predict's 200, with a model that needs no library."""
    if server.name not in bench.started:
        with bench.serving(server, Job(model="tiny")):
            pass  # the first start of all reads the environment's files from the disk
    with bench.serving(server, Job(model="tiny")) as running:
        return {"seconds": running.started, "memory": processes.memory(running.pid)}


def idle(bench: Bench, server: Server) -> Values:
    """Percent of a core over the whole tree of processes, after some load, with open connections to none."""
    with bench.serving(server, Job(model="iris")) as running:
        load.closed(running.request(), connections=4, seconds=WARM_S)
        time.sleep(2)
        began, before = time.monotonic(), processes.cpu(running.pid)
        time.sleep(bench.idle)
        used = processes.cpu(running.pid) - before
        return {"percent": 100 * used / (time.monotonic() - began), "memory": processes.memory(running.pid)}


def modules(bench: Bench, server: Server) -> Values:
    """What a serving process has imported, as its own predict sees it."""
    with bench.serving(server, Job(model="modules")) as running:
        body = running.place.folder / "body.json"
        names = json.loads(load.ask(running.request(body))[1])["predictions"][0]
    forbidden = [name for name in names if name.split(".")[0] in FORBIDDEN]
    return {"loaded": len(names), "forbidden": len(forbidden)}


def memory(_: Bench, __: Server) -> Values:
    """Four workers against one, by memory.py."""
    out = script("memory.py", KIT.python, "--port", str(processes.free_port()))
    found = re.search(r"ratio\D*(\d+\.?\d*)", out)
    if not found:
        raise NotHere("memory.py printed no ratio")
    return {"ratio": float(found[1])}


def artifacts(_: Bench, __: Server) -> Values:
    """Download of 200 files of 1 MB against upstream's, by artifacts.py; the median of its rounds."""
    out = script("artifacts.py", Path(sys.executable), "--latency", "5", "--rounds", "3")
    return {"ratio": float(re.search(r"\| median \|.*\| ([\d.]+) \|", out)[1])}


def script(name: str, python: Path, *options: str) -> str:
    """What one of the other benchmarks prints, whatever it thinks of it. Raises NotHere with its last words."""
    if not (HERE / name).exists():
        raise NotHere(f"benchmarks/{name} is not there")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([python, HERE / name, *options], capture_output=True, text=True, env=environ, check=False)
    if run.returncode and not run.stdout.strip():
        raise NotHere(f"{name}: " + " ".join(run.stderr.split())[-300:])
    return run.stdout.strip()


@dataclass(frozen=True, kw_only=True)
class Measure:
    """`servers` take turns in this order. Those in `once` have a turn in the first round only.

    `together`: all have their one turn at the same time, where they wait and do nothing.
    """

    run: Callable[[Bench, Server], Values]
    servers: tuple[str, ...] = ("cpr_kit", "google")
    once: tuple[str, ...] = ()
    together: bool = False
    burst: Burst | None = None


_ALL = tuple(SERVERS)
_PEERS = tuple(name for name in SERVERS if name != "bare")
MEASURES = {
    "iris": Measure(
        run=iris, servers=_ALL, burst=Burst(model="iris", run=iris_burst, servers=("cpr_kit", "google", "bare"))
    ),
    "author": Measure(run=author, servers=("cpr_kit",)),
    "wide": Measure(run=wide, burst=Burst(model="wide", run=wide_burst, servers=("cpr_kit", "google"))),
    "npy": Measure(run=npy, servers=("cpr_kit",)),
    "forest": Measure(run=forest),
    "start": Measure(run=start, servers=_PEERS),
    "overload": Measure(run=overload, once=("google",)),
    "health": Measure(run=health, once=("cpr_kit", "google")),
    "idle": Measure(run=idle, servers=_PEERS, once=_PEERS, together=True),
    "memory": Measure(run=memory, servers=("cpr_kit",), once=("cpr_kit",)),
    "modules": Measure(run=modules, once=("cpr_kit", "google")),
    "artifacts": Measure(run=artifacts, servers=("cpr_kit",), once=("cpr_kit",)),
    "images": Measure(run=images, once=("cpr_kit", "google")),
}
