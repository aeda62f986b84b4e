"""Workers that are killed, stopped, made to hang and to leak: real processes, real signals.

After each fault the server answers the next good request, or it has ended with the reason in its last line.
"""

import concurrent.futures
import os
import signal
import time

import pytest
from crew import alive, ask, children, exits, full, on_linux, pid, serves_again, start, until

pytestmark = on_linux


@pytest.mark.parametrize(
    ("workers", "how", "told"),
    [
        (1, ("exit", 7), "ended with exit code 7: it is replaced"),
        (2, ("exit", 0), "ended with exit code 0: it is replaced"),
        (2, ("crash",), "was killed by signal 11 (SIGSEGV): it is replaced"),
    ],
)
def test_a_worker_that_dies_in_predict_is_replaced(start, workers, how, told):
    server = start(workers=workers).ready()
    before = full(server, workers)
    exits(server, *how)

    serves_again(server)
    until(lambda: len(full(server, workers) - before) == 1)
    assert told in server.stderr()
    assert server.process.poll() is None


def test_a_crash_shows_the_line_that_it_came_from(start):
    server = start().ready()
    exits(server, "crash")
    serves_again(server)

    assert "Segmentation fault" in server.stderr()
    assert "in crash" in server.stderr()


def test_a_killed_worker_is_replaced_and_the_reason_is_guessed(start):
    server = start().ready()
    os.kill(pid(server), signal.SIGKILL)
    serves_again(server)

    assert "was killed by signal 9 (out of memory?): it is replaced" in server.stderr()


def test_a_stopped_worker_is_replaced(start):
    workers = 2
    server = start(workers=workers, heartbeat=1.5).ready()
    stopped = next(iter(full(server, workers)))
    os.kill(stopped, signal.SIGSTOP)

    until(lambda: stopped not in children(server.process.pid))
    serves_again(server)
    assert "did not answer for 1.5 s, and was ended: it is replaced" in server.stderr()


def test_a_worker_in_which_a_library_holds_pythons_lock_is_replaced_and_the_line_is_shown(start):
    server = start(heartbeat=1.5).ready()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pool.submit(exits, server, "hold_the_lock")
        until(lambda: "did not answer for 1.5 s" in server.stderr())
        serves_again(server)

    assert "in hold_the_lock" in server.stderr()


def test_a_call_that_never_ends_ends_its_worker(start):
    server = start(grace=0.5, environment={"CPR_SERVE_REQUEST_TIMEOUT": "1"}.items()).ready()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pool.submit(exits, server, "loop")
        until(lambda: "was kept by one call of the model's code for" in server.stderr())
        serves_again(server)

    assert "in loop" in server.stderr()


@pytest.mark.parametrize("predictor", ["LoadsSlowly", "HoldsTheLockAsItLoads"])
def test_a_long_load_is_no_hang(start, predictor):
    environment = {"SECONDS": "3", "CPR_SERVE_REQUEST_TIMEOUT": "0.5"}
    server = start(predictor, heartbeat=1, grace=0.1, environment=environment.items()).ready()

    assert server.stderr() == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_leaks_is_replaced_and_answers_what_it_accepted(start, workers):
    server = start(workers=workers, memory=150 << 20, memory_every=0.1).ready()
    before = full(server, workers)

    leaky = ask(server, "leak", 200, 2.5)  # longer than it takes to be noticed
    assert (leaky.status_code, leaky.headers["connection"]) == (200, "close")
    until(lambda: leaky.json()["predictions"][0] not in children(server.process.pid))
    serves_again(server)

    assert len(full(server, workers) - before) == 1
    assert "its memory has grown from" in server.stdout()
    assert "over its limit of 150 MB" in server.stdout()
    assert server.stderr() == ""


def test_a_model_that_is_larger_than_the_limit_is_served_all_the_same(start):
    server = start(
        "HoldsManyNumbers", memory=100 << 20, memory_every=0.1, environment={"MEGABYTES": "150"}.items()
    ).ready()
    first = pid(server)
    time.sleep(1.5)

    assert pid(server) == first
    assert "no worker is replaced for its memory" in server.stdout()


def test_workers_that_keep_dying_end_the_server_with_the_reason(start):
    server = start(workers=2, deaths=2).ready()
    for _ in range(30):
        exits(server, "exit", 3)
        if server.process.poll() is not None:
            break

    code, last = server.end()
    assert code == 1
    assert "workers keep dying: 3 in 600 s; the last ended with exit code 3 | the model's code ended" in last


def test_workers_that_die_as_they_load_end_the_server_with_the_reason(start):
    server = start("DiesAsItLoads", workers=2, deaths=2, window=0.001)

    code, last = server.end()
    assert code == 1
    assert "workers keep dying: 3 in a row before their model was loaded; the last was killed by signal 9" in last


def test_workers_that_keep_leaking_end_the_server_with_the_reason(start):
    server = start(memory=150 << 20, memory_every=0.05, deaths=1).ready()
    for _ in range(3):
        serves_again(server)
        leaky = ask(server, "leak", 200, 0).json()["predictions"][0]
        until(lambda gone=leaky: not alive(gone))

    code, last = server.end()
    assert code == 1
    # The first is planned; from then on each counts as a death.
    assert "workers keep dying: 2 in 600 s; the last ended because its memory has grown from" in last


@pytest.mark.parametrize(
    ("workers", "predictor"), [(1, "fails:LoadRaises"), (3, "imports_missing_module:X"), (3, "fails:LoadExits")]
)
def test_a_load_that_fails_in_the_parent_or_a_worker_ends_with_its_reason(serve, workers, predictor):
    server = serve(predictor, VERTEX_CPR_WEB_CONCURRENCY=str(workers))

    code, last = server.end()
    assert code == 1
    assert "cannot start: " in last
    assert " | " in last
    assert server.stderr().count("cannot start: ") == 1


def test_a_load_that_fails_in_every_worker_ends_with_its_reason_once(start):
    code, last = start("LoadsOnce", workers=3, environment={"GOOD": "0"}.items()).end()

    assert code == 1
    assert "cannot start: LoadsOnce could not be loaded: ValueError: the bucket is gone (workers.py line" in last


def test_a_replacement_that_cannot_load_ends_a_server_that_has_no_other_worker(start):
    server = start("LoadsOnce").ready()
    exits(server, "exit", 7)

    code, last = server.end()
    assert code == 1
    assert "the bucket is gone" in last


def test_a_replacement_that_cannot_load_is_tried_again_while_another_serves(start):
    server = start("LoadsOnce", workers=2, deaths=3, environment={"GOOD": "2"}.items()).ready()
    full(server, 2)
    exits(server, "exit", 7)

    code, last = server.end()
    assert code == 1
    assert "workers keep dying: 4 in 600 s; the last could not load the model" in last
    assert "the bucket is gone" in last
