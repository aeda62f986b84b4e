import asyncio
import concurrent.futures
import contextvars
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.runtime import startup
from cpr_kit.runtime.startup import Phases


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def told(phases):
    return {name: took for name, took in phases.seconds().items() if took}


def test_each_second_counts_for_the_phase_it_was_spent_in(clock):
    phases = Phases(90.0, clock)
    with phases.phase("import"):
        clock.sleep(1)
    with phases.phase("load"):
        clock.sleep(2)
        with phases.phase("download"):
            clock.sleep(4)
            with phases.phase("import"):
                clock.sleep(8)
        clock.sleep(16)
    clock.sleep(32)
    with phases.phase("warm-up"):
        clock.sleep(64)

    assert told(phases) == {
        "import": 10 + 1 + 8,
        "load": 2 + 16,
        "download": 4,
        "warm-up": 64,
        "other": 32,
        "total": 10 + 127,
    }


def test_a_phase_that_raises_counts(clock):
    phases = Phases(100.0, clock)
    with pytest.raises(ValueError, match="no"), phases.phase("load"):
        clock.sleep(1)
        raise ValueError("no")
    clock.sleep(2)
    assert told(phases) == {"load": 1, "other": 2, "total": 3}


def test_a_phase_in_a_thread_with_this_context_is_inside(clock):
    phases = Phases(100.0, clock)

    def download():
        with phases.phase("download"):
            clock.sleep(4)

    with phases.phase("load"), concurrent.futures.ThreadPoolExecutor() as pool:
        clock.sleep(1)
        pool.submit(contextvars.copy_context().run, download).result()
    assert told(phases) == {"load": 1, "download": 4, "total": 5}


def test_a_phase_may_wait(clock):
    phases = Phases(100.0, clock)

    async def warm():
        with phases.phase("warm-up"):
            await asyncio.to_thread(clock.sleep, 3)

    asyncio.run(warm())
    assert told(phases) == {"warm-up": 3, "total": 3}


def test_a_replacement_starts_again(clock):
    phases = Phases(0.0, clock)
    with phases.phase("load"):
        clock.sleep(5)
    phases.again()
    with phases.phase("load"):
        clock.sleep(1)
    assert told(phases) == {"load": 1, "total": 1}


@given(st.recursive(st.integers(0, 9), lambda inner: st.lists(st.tuples(st.sampled_from("abc"), inner), max_size=4)))
def test_the_parts_are_the_whole(tree):
    clock = Clock()
    phases = Phases(95.0, clock)

    def play(node):
        if isinstance(node, int):
            clock.sleep(node)
            return
        for name, inner in node:
            with phases.phase(name):
                play(inner)

    play(tree)
    seconds = phases.seconds()
    total = seconds.pop("total")
    assert total == clock.now - 95
    assert sum(seconds.values()) == pytest.approx(total)
    assert min(seconds.values()) >= 0


def test_a_start_is_told_in_one_line_counted_from_the_process_start():
    code = """
import time; time.sleep(0.3)
from cpr_kit.runtime import logs, startup
logs.configure()
with startup.phase("import"): time.sleep(0.2)
with startup.phase("load"):
    with startup.phase("download"): time.sleep(0.4)
    time.sleep(0.1)
with startup.phase("warm-up"): time.sleep(0.15)
startup.report("POST /predict on port 8080")
"""
    env = {"PATH": os.environ["PATH"], "CPR_SERVE_LOG_FORMAT": "json"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=60)
    line = json.loads(done.stdout)
    seconds = line["startup_seconds"]

    least = {"import": 0.5, "download": 0.4, "load": 0.1, "warm-up": 0.15}
    assert {name: seconds[name] >= at_least - 0.02 for name, at_least in least.items()} == dict.fromkeys(least, True)
    parts = sum(took for name, took in seconds.items() if name != "total")
    assert parts == pytest.approx(seconds["total"], abs=0.01)
    assert line["message"].startswith(
        f"the model is ready after {seconds['total']:.2f} s: import {seconds['import']:.2f}, download {seconds['download']:.2f}, "
    )
    assert line["message"].endswith("; POST /predict on port 8080")
    assert line["severity"] == "INFO"


def test_the_age_of_a_process_is_the_kernels():
    code = "import time; time.sleep(0.5); from cpr_kit.runtime import startup; print(startup.age())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert 0.49 <= float(done.stdout) < 30


@pytest.mark.parametrize("content", ["", "1 (a) S 2", "1 (evil) name) S " + "x " * 40, "1 (p) S " + "0 " * 40])
def test_an_age_that_is_not_to_be_believed_is_none(monkeypatch, content):
    monkeypatch.setattr(startup.Path, "read_text", lambda *_: content)
    monkeypatch.setattr(startup.time, "clock_gettime", lambda _: 1e6)
    assert startup.age() == 0.0


def test_a_process_name_with_brackets_is_no_matter(monkeypatch):
    content = "1 (a) b (c) S " + " ".join(["0"] * 18) + " 500 0"
    monkeypatch.setattr(startup.Path, "read_text", lambda *_: content)
    monkeypatch.setattr(startup.time, "clock_gettime", lambda _: 5.0 + 500 / os.sysconf("SC_CLK_TCK"))
    assert startup.age() == 5.0
