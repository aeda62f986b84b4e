import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cpr_kit.errors import StartError
from cpr_kit.runtime import metrics


def run(code, **environ):
    """What a process of its own prints; the library keeps its files open, so no test counts in this one."""
    code = "import os\nfrom cpr_kit.runtime import metrics\n" + textwrap.dedent(code)
    env = {"PATH": os.environ["PATH"], **environ}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def samples(text):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_off_counts_nothing_and_costs_no_import():
    assert run("""
        import sys
        off = metrics.make(asked=False)
        off.request(200, 0.1), off.refused("queue"), off.batch(3, 0.1), off.queued(1), off.in_flight(1)
        off.waited(0.1), off.loaded(1.0), off.restarted(), off.ended(1)
        print(off.exposition(), "prometheus_client" in sys.modules)
    """) == "(b'', 'text/plain; charset=utf-8') False\n"  # fmt: skip


def test_both_kinds_have_the_same_methods():
    methods = {name for name in vars(metrics.Off) if not name.startswith("_")}
    assert methods == {name for name in vars(metrics.Prometheus) if not name.startswith("_")}


def test_everything_counted_is_in_the_exposition():
    found = samples(run("""
        counted = metrics.make(asked=True)
        for status, seconds in ((200, 0.02), (200, 0.003), (422, 0.001), (500, 3.0)):
            counted.request(status, seconds)
        counted.refused("queue full")
        counted.in_flight(1), counted.in_flight(1), counted.in_flight(-1)
        counted.queued(5), counted.queued(-2)
        counted.waited(0.5)
        counted.batch(7, 0.2), counted.batch(64, 0.2)
        counted.loaded(1.5)
        counted.restarted()
        body, content_type = counted.exposition()
        assert content_type.startswith("text/plain; version="), content_type
        print(body.decode())
    """))  # fmt: skip

    expected = {
        ("cpr_requests_total", "2xx"): 2,
        ("cpr_requests_total", "4xx"): 1,
        ("cpr_requests_total", "5xx"): 1,
        ("cpr_refusals_total", "queue full"): 1,
        ("cpr_requests_in_flight",): 1,
        ("cpr_queue_requests",): 3,
        ("cpr_queue_seconds_sum",): 0.5,
        ("cpr_batch_rows_bucket", "8.0"): 1,
        ("cpr_batch_rows_sum",): 71,
        ("cpr_predict_seconds_count",): 2,
        ("cpr_model_load_seconds",): 1.5,
        ("cpr_worker_restarts_total",): 1,
        ("cpr_request_seconds_count",): 4,
        ("cpr_request_seconds_bucket", "0.0025"): 1,
        ("cpr_request_seconds_bucket", "+Inf"): 4,
    }
    assert {name: found.get(name) for name in expected} == expected


WORKERS = """
    import signal
    counted = metrics.make(asked=True)
    counted.restarted()
    ready, go = os.pipe(), os.pipe()
    pids = []
    for number in range(3):
        pid = os.fork()
        if not pid:
            for _ in range(number + 1):
                counted.request(200, 0.01)
                counted.in_flight(1)
            counted.loaded(float(number))
            os.write(ready[1], b"r")
            os.read(go[0], 1)
            if number == 0:
                print(counted.exposition()[0].decode(), flush=True)
            raise SystemExit
        pids.append(pid)
    counted_by = 0
    while counted_by < 3:
        counted_by += len(os.read(ready[0], 3))
"""


def test_any_workers_exposition_is_the_sum_over_all():
    found = samples(run(WORKERS + """
    os.write(go[1], b"ggg")
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    """))  # fmt: skip
    assert found[("cpr_requests_total", "2xx")] == 6
    assert found[("cpr_requests_in_flight",)] == 6
    assert found[("cpr_worker_restarts_total",)] == 1
    assert found[("cpr_model_load_seconds",)] == 2


def test_what_a_dead_worker_counted_stays_and_what_it_had_in_flight_goes():
    found = samples(run(WORKERS + """
    os.kill(pids[2], signal.SIGKILL)
    os.waitpid(pids[2], 0)
    counted.ended(pids[2])
    os.write(go[1], b"gg")
    for pid in pids[:2]:
        os.waitpid(pid, 0)
    """))  # fmt: skip
    assert found[("cpr_requests_total", "2xx")] == 6
    assert found[("cpr_requests_in_flight",)] == 3


def test_the_folder_is_private_and_goes_with_the_process_that_made_it():
    facts = json.loads(run("""
        import json, stat
        counted = metrics.make(asked=True)
        folder = os.environ["PROMETHEUS_MULTIPROC_DIR"]
        pid = os.fork()
        if not pid:
            raise SystemExit
        os.waitpid(pid, 0)
        print(json.dumps([folder, os.path.isdir(folder), stat.S_IMODE(os.stat(folder).st_mode)]))
    """))  # fmt: skip
    folder, is_there_after_a_worker_ended, mode = facts
    assert (is_there_after_a_worker_ended, mode) == (True, 0o700)
    assert not Path(folder).exists()


def test_a_folder_of_the_environments_is_made_and_stays(tmp_path):
    folder = tmp_path / "a" / "b"
    run("metrics.make(asked=True).request(200, 0.1)", PROMETHEUS_MULTIPROC_DIR=str(folder))
    assert list(folder.iterdir())


def test_the_authors_own_metrics_are_shown_too():
    found = samples(run("""
        import prometheus_client  # imported before there is a folder, as an author's entry point may
        counted = metrics.make(asked=True)
        prometheus_client.Counter("authors", "The author's own.").inc(3)
        print(counted.exposition()[0].decode())
    """))  # fmt: skip
    assert found[("authors_total",)] == 3


def test_asking_without_the_library_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setitem(sys.modules, "prometheus_client.multiprocess", None)
    with pytest.raises(StartError) as error:
        metrics.make(asked=True)
    assert "add prometheus-client to requirements.txt" in error.value.remedy


def test_a_folder_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "file"))
    with pytest.raises(StartError, match="there is no folder to count in") as error:
        metrics.make(asked=True)
    assert "PROMETHEUS_MULTIPROC_DIR" in error.value.remedy
