"""How workers come by their model: loaded once and shared, or loaded in each; and who answers meanwhile."""

import concurrent.futures
import contextlib
import os
import signal
import time

import pytest
import requests
from crew import ask, children, exits, full, lines, on_linux, pid, serves_again, start, until

pytestmark = on_linux


def test_workers_share_a_model_that_is_loaded_once(start, tmp_path):
    server = start(workers=3).ready()

    before = full(server, 3)
    os.kill(next(iter(before)), signal.SIGKILL)

    until(lambda: len(children(server.process.pid) - before) == 1)
    after = full(server, 3)
    assert len(after - before) == 1
    assert lines(tmp_path, "loads") == [str(server.process.pid)]


@pytest.mark.parametrize(
    ("predictor", "loads", "reason"),
    [
        ("Unshared", 2, "fork_safe = False"),
        ("StartsAThread", 3, "threads that are still there: Thread-1"),
        ("StartsANativeThread", 3, "native threads"),
        ("WantsALoop", 2, "event loop"),
    ],
)
def test_a_model_that_cannot_be_shared_is_loaded_in_each_worker(start, tmp_path, predictor, loads, reason):
    server = start(predictor, workers=2).ready()

    workers = full(server, 2)
    # Where only the load itself showed it, there was one more load, in the process that then started anew.
    assert len(lines(tmp_path, "loads")) == loads
    assert {str(worker) for worker in workers} <= set(lines(tmp_path, "loads"))
    assert server.stdout().count("each worker loads the model for itself") == 1
    assert reason in server.stdout()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert server.stderr() == ""


@pytest.mark.parametrize("library", ["torch", "xgboost"])
def test_libraries_that_do_not_survive_a_fork_are_known(library):
    from cpr_kit.runtime.workers import sharing

    assert library in sharing._library({library: None, "numpy": None})
    assert sharing._library({"numpy": None, "sklearn": None}) == ""


def test_a_model_of_scikit_learn_is_shared(serve, tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "lazy.py").write_text(
        "import os\n"
        "from cpr_kit import Predictor\n"
        "class Lazy(Predictor):\n"
        "    def load(self, artifacts_uri):\n"
        "        from sklearn.linear_model import LinearRegression\n"
        "        self.model = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])\n"
        "        self.loaded_in = os.getpid()\n"
        "    def predict(self, request):\n"
        "        return {'predictions': [self.loaded_in, *self.model.predict(request['instances']).round(6)]}\n"
    )
    server = serve("lazy:Lazy", cwd=tmp_path, VERTEX_CPR_WEB_CONCURRENCY="2").ready()

    answer = server.predict({"instances": [[3.0]]})
    assert answer.json() == {"predictions": [server.process.pid, 3.0]}, server.stdout()


@pytest.mark.parametrize("predictor", ["LoadsSlowly", "LoadsSlowlyUnshared"])
def test_while_the_model_loads_every_request_is_answered_503_and_none_is_lost(start, predictor):
    server = start(predictor, workers=2)

    def statuses():
        found, deadline = [], time.monotonic() + 30
        while time.monotonic() < deadline and found[-5:] != [200] * 5:
            try:
                response = ask(server, "pid")
            except requests.ConnectionError as error:
                assert not found, f"lost after {len(found)} answers: {error}"  # until it listens
                continue
            found.append(response.status_code)
            if response.status_code == 503:
                assert (response.headers["retry-after"], response.headers["connection"]) == ("1", "close")
                assert "still loading" in response.json()["error"]["message"]
        return found

    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = [future.result() for future in [pool.submit(statuses) for _ in range(4)]]

    for found in runs:
        # Once a worker serves, none that loads takes a request any more; those it had taken it answers.
        assert found.count(503) > 2
        assert set(found) == {503, 200}


def test_a_worker_that_still_loads_takes_no_requests_once_another_serves(start, tmp_path):
    server = start("LoadsSlowlyTheSecondTime", workers=2).ready()
    time.sleep(0.5)

    statuses = [ask(server, "pid").status_code for _ in range(50)]
    assert len(lines(tmp_path, "loads")) == 2
    assert set(statuses) == {200}


def test_a_replacement_that_loads_takes_no_requests_while_another_worker_serves(start):
    server = start("LoadsSlowlyUnshared", workers=2, environment={"SECONDS": "0.5"}.items()).ready()
    before = full(server, 2)
    os.kill(next(iter(before)), signal.SIGKILL)

    deadline = time.monotonic() + 1.0
    statuses = set()
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):  # of the moment in which the worker is killed
            statuses.add(ask(server, "pid").status_code)
    assert statuses == {200}
    full(server, 2)


def test_one_worker_loads_by_itself_and_its_replacement_loads_again(start, tmp_path):
    server = start().ready()
    first = pid(server)
    exits(server, "exit", 7)
    serves_again(server)

    assert lines(tmp_path, "loads") == [str(first), str(pid(server))]
