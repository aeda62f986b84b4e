import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.contract import Probe
from cpr_kit.errors import ContainerError
from cpr_kit.harness.endpoint import LocalEndpoint
from cpr_kit.harness.monitor import Health, HealthMonitor


def after(answers, health=None):
    health = health or Health()
    for good in answers:
        health = health.after(good=good)
    return health


def test_three_misses_keep_the_traffic():
    assert after([False] * 3).serving


def test_four_misses_in_a_row_take_the_traffic():
    assert not after([False] * 4).serving


def test_a_good_answer_between_begins_the_count_anew():
    assert after([False, False, False, True, False, False, False]).serving


def test_one_good_answer_brings_the_traffic_back():
    assert after([False] * 9 + [True]).serving


def test_a_probes_own_thresholds_count():
    health = Health(misses_allowed=2, answers_needed=2)
    assert not after([False, False, True], health).serving
    assert after([False, False, True, True], health).serving


@given(st.lists(st.booleans()))
def test_traffic_is_off_just_when_the_last_four_or_more_answers_are_misses(answers):
    misses = 0
    for good in reversed(answers):
        if good:
            break
        misses += 1
    assert after(answers).serving == (misses < 4)


@given(st.lists(st.booleans()), st.integers(1, 5), st.integers(1, 5))
def test_the_state_changes_only_after_as_many_opposite_answers_as_its_threshold(answers, misses, needed):
    health, recent = Health(misses_allowed=misses, answers_needed=needed), []
    for good in answers:
        before, health = health, health.after(good=good)
        recent.append(good)
        if before.serving != health.serving:
            length = needed if good else misses
            assert recent[-length:] == [good] * length


@pytest.fixture
def watched(scripts, spec):
    """A served script and its monitor, looked at by hand."""

    def serve(name, **fields):
        endpoint = LocalEndpoint(spec(name, **fields), scripts, ready_interval_s=0.02)
        endpoint.serve()
        lines = []
        return endpoint, HealthMonitor(endpoint.container, endpoint.spec, endpoint.launch, report=lines.append), lines

    yield serve
    for container in scripts.containers:
        container.remove()


def test_four_looks_at_an_unhealthy_server_report_once(watched):
    _, monitor, lines = watched("healthy_once")
    for _ in range(6):
        monitor.look()
    assert len(lines) == 1
    assert "unhealthy: it gets no traffic" in lines[0]
    assert "status 500" in lines[0]
    assert monitor.restarts == 0


def test_four_liveness_misses_restart_a_dead_container(watched):
    endpoint, monitor, lines = watched("healthy")
    endpoint.container.crash()
    for _ in range(3):
        monitor.look()
    assert monitor.restarts == 0
    monitor.look()
    assert monitor.restarts == 1
    assert "restarted (liveness check" in lines[0]
    assert "4 times connection refused" in lines[0]
    assert endpoint.container.restarts == 1


def test_a_liveness_probe_restarts_a_container_whose_port_answers(watched, tmp_path):
    stuck = tmp_path / "stuck"
    command = (sys.executable, "-c", "import pathlib, sys; sys.exit(pathlib.Path(sys.argv[1]).exists())", str(stuck))
    probe = Probe(exec=command, timeout_s=30, failure_threshold=2)
    endpoint, monitor, lines = watched("healthy", liveness_probe=probe)
    monitor.look()
    stuck.touch()
    monitor.look()
    assert monitor.restarts == 0
    monitor.look()
    assert monitor.restarts == endpoint.container.restarts == 1
    assert "restarted (liveness probe (" in lines[0]
    assert "2 times exit code 1" in lines[0]
    assert monitor.liveness.misses_allowed == 2


def test_a_restarted_container_gets_traffic_again(watched):
    endpoint, monitor, lines = watched("healthy")
    endpoint.container.crash()
    for _ in range(4):
        monitor.look()
    endpoint._wait_until_ready(endpoint.container)
    monitor.look()
    assert monitor.health.serving
    assert endpoint.predict(instances=[[1, 2]]).predictions == [3]


def test_the_thread_looks_at_the_given_cadence_and_ends_with_its_context(watched):
    endpoint, _, _ = watched("healthy_once")
    lines, told = [], threading.Event()

    def report(line):
        lines.append(line)
        told.set()

    with HealthMonitor(endpoint.container, endpoint.spec, endpoint.launch, report=report, period_s=0.02) as monitor:
        assert told.wait(30)
    assert not monitor.health.serving
    assert not [thread for thread in threading.enumerate() if thread.name == "cpr-health"]


def test_a_restart_that_fails_is_reported_and_ends_the_watch(watched, monkeypatch):
    endpoint, _, _ = watched("healthy")

    def refuse():
        raise ContainerError("no space left")

    monkeypatch.setattr(endpoint.container, "restart", refuse)
    endpoint.container.crash()
    lines, told = [], threading.Event()

    def report(line):
        lines.append(line)
        if "no longer" in line:
            told.set()

    with HealthMonitor(endpoint.container, endpoint.spec, endpoint.launch, report=report, period_s=0.02):
        assert told.wait(30)
    assert "no space left" in lines[-1]


def test_a_health_probe_brings_its_own_thresholds_and_period(watched):
    _, monitor, lines = watched("healthy", health_probe=Probe(tcp=True, period_s=3, failure_threshold=7))
    assert monitor.health.misses_allowed == 7
    assert monitor._period_s == 3
    assert not lines
