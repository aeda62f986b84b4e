import sys
import time

import pytest

from cpr_kit.contract import Deployment, Probe, launch
from cpr_kit.engine.protocol import Run
from cpr_kit.errors import ContainerError, SpecError
from cpr_kit.harness import probes


@pytest.fixture
def started(scripts, spec):
    """Starts a script and waits until it is ready."""

    def start(name, timeout_s=20.0, **fields):
        one = spec(name, **fields)
        resolved = launch(one, Deployment(), port=scripts.listen_port(one.port, None))
        container = scripts.run(Run(image=one.image_uri, port=resolved.port, env=resolved.env))
        probes.wait_until_ready(container, one, resolved, timeout_s=timeout_s, interval_s=0.02)
        return container

    yield start
    for container in scripts.containers:
        container.remove()


def test_a_healthy_server_is_ready(started):
    assert started("healthy").status() == "running"


def test_the_wait_lasts_until_health_answers_200(started):
    before = time.monotonic()
    started("healthy_after_two_seconds")
    assert time.monotonic() - before >= 2


def test_the_wait_ends_early_when_the_container_ends(started):
    before = time.monotonic()
    with pytest.raises(ContainerError, match=r"ended with exit code 1 before its liveness check") as caught:
        started("exits_at_start", timeout_s=60)
    assert time.monotonic() - before < 30
    assert caught.value.logs == "loading the model\nmodel.joblib is not there\n"
    assert "model.joblib is not there" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "check", "seen"),
    [
        ("never_healthy", r"health check \(GET /health on port \d+\)", "status 503"),
        ("hesitates", "health check", "status 503"),
        ("health_204", "health check", "status 204"),
        ("slow_health", "health check", "no answer within"),
        ("never_listens", r"liveness check \(TCP connection to port \d+\)", "connection refused"),
        ("hangs_up", "health check", "closed without an answer"),
    ],
)
def test_the_error_names_the_check_what_was_seen_and_how_long(started, name, check, seen):
    with pytest.raises(ContainerError, match=rf"{check}.* did not succeed within 1.5 s; seen last: .*{seen}"):
        started(name, timeout_s=1.5)


def test_the_end_of_a_container_is_noticed_between_two_probes_far_apart(started):
    before = time.monotonic()
    with pytest.raises(ContainerError, match="ended with exit code 1 before its startup probe"):
        started("exits_at_start", timeout_s=60, startup_probe=Probe(tcp=True, period_s=30, initial_delay_s=30))
    assert time.monotonic() - before < 15


def test_a_startup_probe_that_succeeds_is_followed_by_the_health_check(started):
    probe = Probe(exec=(sys.executable, "-c", "pass"), period_s=1, timeout_s=10)
    container = started("healthy", startup_probe=probe)
    container.remove()
    assert "GET /health" in container.logs()


def test_a_startup_probe_that_fails_to_its_threshold_ends_the_wait(started):
    probe = Probe(exec=(sys.executable, "-c", "raise SystemExit(3)"), period_s=1, timeout_s=10, failure_threshold=2)
    with pytest.raises(
        ContainerError, match=r"startup probe .* failed 2 times in a row; seen last: exit code 3"
    ) as caught:
        started("healthy", startup_probe=probe)
    assert "GET /health" not in caught.value.logs


def test_an_exec_probe_has_its_timeout(started):
    probe = Probe(exec=(sys.executable, "-c", "import time; time.sleep(9)"), timeout_s=0.1, failure_threshold=1)
    with pytest.raises(ContainerError, match=r"startup probe .* no answer within 0\.1 s"):
        started("healthy", startup_probe=probe)


def test_an_initial_delay_is_waited(started):
    before = time.monotonic()
    started("healthy", startup_probe=Probe(tcp=True, initial_delay_s=1.0))
    assert time.monotonic() - before >= 1.0


def test_a_health_probe_replaces_the_health_check(started):
    container = started("never_healthy", health_probe=Probe(tcp=True, success_threshold=2))
    container.remove()
    assert "GET /health" not in container.logs()


def test_a_liveness_probe_replaces_the_liveness_check(started):
    with pytest.raises(ContainerError, match=r"liveness probe \(GET /alive on port \d+\).*status 404"):
        started("healthy", timeout_s=1.5, liveness_probe=Probe(http_path="/alive"))
    assert started("healthy", liveness_probe=Probe(http_path="/health")).status() == "running"


def test_an_http_probe_asks_its_own_path(started):
    with pytest.raises(ContainerError, match=r"health probe \(GET /ready on port \d+\).*status 404"):
        started("healthy", timeout_s=1.5, health_probe=Probe(http_path="/ready"))


def test_a_probe_of_an_unpublished_port_is_refused(spec):
    for name in ("startup_probe", "health_probe", "liveness_probe"):
        with pytest.raises(SpecError, match=f"{name} asks port 9090; only the first port, 8080"):
            probes.check_ports(spec("healthy", **{name: Probe(tcp=True, port=9090)}))


def test_liveness_sees_through_a_forwarder_that_hangs_up(scripts, spec, started):
    port = scripts.listen_port(0, None)
    scripts.run(Run(image=spec("hangs_up").image_uri, port=port, env={"AIP_HTTP_PORT": str(port)}))
    deadline = time.monotonic() + 10
    while not probes.connect(port, 1.0).good and time.monotonic() < deadline:
        time.sleep(0.02)
    answer = probes.connect(port, 1.0, hang_up_s=5.0)
    assert not answer.good
    assert "nothing listens behind it" in answer.seen


def test_an_unknown_host_port_is_refused_in_words(scripts):
    answer = probes.get(scripts.listen_port(0, None), "/health", 1.0)
    assert answer == probes.Answer(good=False, seen="connection refused")
