"""A server with workers, and what is asked of them and of the kernel about them."""

import contextlib
import json
import time
from pathlib import Path

import pytest
import requests

on_linux = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")


@pytest.fixture
def start(serve, tmp_path):
    """start("Serves", workers=2, heartbeat=1, ...) -> Server of zoo/workers.py with those limits."""

    def started(predictor="Serves", *, workers=1, environment=(), **limits):
        limits = {"workers": workers, "last_call": 0.2, "window": 600, **limits}
        return serve(
            f"workers:{predictor}",
            script="with_limits.py",
            LIMITS=json.dumps(limits),
            COUNTS=str(tmp_path),
            **dict(environment),
        )

    return started


def ask(server, how, *arguments):
    """A request on a connection of its own, so that any worker may take it."""
    return requests.post(f"{server.url}/predict", json={"instances": [how, *arguments]}, timeout=30)


def pid(server):
    return ask(server, "pid").json()["predictions"][0]


def children(process):
    return {int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()}


def until(condition, what="what should happen"):
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)
    return found


def full(server, number):
    """The pids of `number` workers that have each answered; each may be asked by chance only."""
    found = set()

    def asked():
        with contextlib.suppress(requests.RequestException, KeyError):
            found.add(pid(server))
        found.intersection_update(children(server.process.pid))
        return len(found) == number

    until(asked, f"{number} workers answer")
    return found


def lines(tmp_path, what):
    file = tmp_path / what
    return file.read_text().split() if file.exists() else []


def serves_again(server):
    def answers():
        with contextlib.suppress(requests.RequestException):
            return ask(server, "pid").status_code == 200

    until(answers, "it answers again")


def exits(server, how, *arguments):
    with contextlib.suppress(requests.RequestException):
        ask(server, how, *arguments)


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
