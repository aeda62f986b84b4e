"""How a server with workers ends: asked to at any moment, by force, and what it does as process 1."""

import concurrent.futures
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from crew import alive, ask, children, exits, full, lines, on_linux, pid, start, until

pytestmark = on_linux


@pytest.mark.parametrize("workers", [1, 2])
def test_no_worker_outlives_a_killed_supervisor(start, workers):
    server = start(workers=workers).ready()
    below = full(server, workers)
    server.process.kill()

    def gone():
        return not any(alive(worker) for worker in below)

    until(gone, "the workers are gone")


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGINT), (2, signal.SIGTERM)])
def test_asked_to_stop_it_turns_health_503_answers_everything_and_exits_0(start, workers, number):
    server = start(workers=workers, last_call=1.0).ready()
    full(server, workers)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(ask, server, "sleep", 0.3) for _ in range(4)]
        time.sleep(0.2)
        server.process.send_signal(number)
        time.sleep(0.2)
        late = [pool.submit(ask, server, "pid") for _ in range(4)]
        health = requests.get(f"{server.url}/health", timeout=10)
        server.process.send_signal(signal.SIGTERM)  # asked twice, it drains once

        assert (health.status_code, health.headers["connection"]) == (503, "close")
        answers = [future.result() for future in slow + late]
    assert [answer.status_code for answer in answers] == [200] * 8
    assert {answer.headers["connection"] for answer in answers} == {"close"}
    assert server.process.wait(20) == 0
    assert server.stderr() == ""


def test_idle_connections_do_not_hold_up_the_end_and_may_ask_once_more(start):
    server = start(workers=2, last_call=1.0).ready()
    sessions = [requests.Session() for _ in range(3)]
    for session in sessions:
        assert session.get(f"{server.url}/health").status_code == 200
    silent = socket.create_connection(("127.0.0.1", server.port))
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)

    answer = sessions[0].post(f"{server.url}/predict", json={"instances": ["pid"]})
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert server.process.wait(10) == 0
    assert silent.recv(1) == b""
    silent.close()
    for session in sessions:
        session.close()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("predictor", ["LoadsSlowly", "LoadsSlowlyUnshared"])
def test_asked_to_stop_while_it_loads_it_ends_at_once(start, predictor, workers):
    server = start(predictor, workers=workers, environment={"SECONDS": "60"}.items()).wait_for(503)
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(30) == 0  # and not after the 60 s of its load
    assert server.stderr() == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_asked_to_stop_at_any_moment_of_its_start_it_exits_0(start, workers):
    for _ in range(4):
        server = start(workers=workers)
        until(lambda port=server.port: listens(port), "it listens")
        time.sleep(random.uniform(0, 0.4))
        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(10) == 0
        assert server.stderr() == ""


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_threads_of_the_authors_do_not_hold_up_the_end(start):
    server = start("KeepsAThread").ready()
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(10) == 0


def test_what_the_author_registered_for_the_end_runs_in_the_worker(start, tmp_path):
    server = start("RegistersItsEnd").ready()
    worker = pid(server)
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(10) == 0
    assert lines(tmp_path, "ends") == [str(worker)]


def test_a_drain_is_cut_off_by_its_time_out(start):
    server = start(drain=1).ready()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pool.submit(exits, server, "sleep", 20)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(15) == 0


def test_signals_of_gunicorns_operators_change_nothing(start):
    server = start(workers=2).ready()
    before = full(server, 2)
    for name in ("HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH"):
        server.process.send_signal(signal.Signals[f"SIG{name}"])
    time.sleep(0.3)

    assert full(server, 2) == before == children(server.process.pid)
    assert server.stderr() == ""


def test_orphans_that_fall_to_it_are_reaped(start):
    """As process 1 of a container it is their parent; here prctl makes it so."""
    code = (
        "import ctypes, os, subprocess, sys, time; ctypes.CDLL(None).prctl(36, 1);"
        "subprocess.run(['sh', '-c', 'sleep 0.2 & :']);"
        "sys.argv = ['with_limits.py']; exec(open('with_limits.py').read())"
    )
    port = free_port()
    environment = {
        **os.environ,
        "AIP_HTTP_PORT": str(port),
        "CPR_SERVE_HOST": "127.0.0.1",
        "LIMITS": "{}",
        "PREDICTOR_MODULE": "workers",
        "PREDICTOR_CLASS": "Serves",
        "VERTEX_CPR_WEB_CONCURRENCY": "1",
    }
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parent / "zoo", env=environment, stdout=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: answers_health(port), "it is ready")
            until(lambda: len(children(process.pid)) == 1, "the orphan is reaped")
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers_health(port):
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=10).status_code == 200


def test_it_runs_without_shared_memory_on_disk(monkeypatch, tmp_path):
    from cpr_kit.runtime.workers import supervisor

    monkeypatch.setattr(os, "access", lambda *_: False)
    assert Path(supervisor._folder_in_memory()).is_dir()
