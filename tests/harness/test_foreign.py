"""Images of others, started once: which of command, port and health is at fault, and what the container wrote."""

import sys
from dataclasses import replace

import pytest

from cpr_kit.contract import ContainerSpec
from cpr_kit.engine.protocol import Image
from cpr_kit.harness import foreign

LIMITS = {"liveness_s": 1.0, "healthy_s": 1.0}


@pytest.fixture
def started(spec):
    """A specification whose command runs one of the scripts."""

    def make(name):
        return spec(name, command=(sys.executable, spec(name).image_uri))

    return make


def by_name(checks):
    return {check.name: check for check in checks}


def test_a_server_that_gets_healthy_passes_all_three(scripts, started):
    checks = foreign.run(started("healthy"), scripts)
    assert [(check.name, check.severity) for check in checks] == [("command", "ok"), ("port", "ok"), ("health", "ok")]
    assert "GET /health answered 200 after" in checks[-1].detail


def test_a_program_that_ends_is_the_commands_fault_with_its_log(scripts, started):
    (check,) = foreign.run(started("exits_at_start"), scripts)
    assert (check.name, check.passed) == ("command", False)
    assert "it ended with exit code 1" in check.detail
    assert "log: model.joblib is not there" in check.detail


def test_a_port_that_does_not_answer_is_named_with_those_that_the_image_exposes(scripts, started, monkeypatch):
    image = Image(reference="i", id="i", entrypoint=("python",), ports=(8501, 8500))
    monkeypatch.setattr(scripts, "image", lambda reference: image)
    checks = by_name(foreign.run(started("never_listens"), scripts, **LIMITS))
    assert checks["command"].passed
    assert not checks["port"].passed
    assert "connection refused, for 1 s" in checks["port"].detail
    assert "the image EXPOSEs 8501, 8500" in checks["port"].detail
    assert "health" not in checks


def test_a_wrong_health_route_is_named(scripts, started):
    checks = by_name(foreign.run(started("never_healthy"), scripts, healthy_s=1.0))
    assert checks["port"].passed
    assert not checks["health"].passed
    assert "GET /health: status 503, for 1 s" in checks["health"].detail


def test_an_image_that_starts_nothing_is_named(scripts, spec, monkeypatch):
    monkeypatch.setattr(scripts, "image", lambda reference: Image(reference=reference, id="i"))
    (check,) = foreign.run(spec("healthy"), scripts, **LIMITS)
    assert "has neither ENTRYPOINT nor CMD" in check.detail
    assert not scripts.runs


@pytest.mark.engine
def test_a_command_that_the_image_does_not_have_is_named_with_where_it_is(engine, servers_image):
    if engine.name != "docker":
        pytest.skip("a process finds its programs on this machine")
    spec = ContainerSpec.kit(servers_image.reference, command=("/usr/bin/healthy.py",))
    (check,) = foreign.run(spec, engine)
    assert (check.name, check.passed) == ("command", False)
    assert "/usr/bin/healthy.py" in check.detail
    assert "; the image has /" in check.detail
    (check,) = foreign.run(replace(spec, command=("tensorflow_model_server",)), engine)
    assert 'the image has no file "tensorflow_model_server"' in check.detail


def test_an_engines_own_container_is_asked_the_same(engine, servers_image):
    checks = foreign.run(ContainerSpec.kit(servers_image.reference, command=("python", "healthy.py")), engine)
    assert [check.severity for check in checks] == ["ok", "ok", "ok"]
