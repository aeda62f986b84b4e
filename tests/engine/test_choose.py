from __future__ import annotations

import os

import pytest

from cpr_kit.engine.choose import choose
from cpr_kit.errors import ConfigError, EngineUnavailable


@pytest.fixture
def silent(tmp_path) -> dict[str, str]:
    """An environment in which no container engine answers."""
    return {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/none.sock", "CPR_ENGINE": ""}


@pytest.mark.engine
def test_docker_is_chosen_where_an_engine_answers():
    choice = choose(environ={**os.environ, "CPR_ENGINE": ""})
    assert choice.engine.name == "docker"
    assert choice.reason.startswith("docker: engine ")


def test_without_an_engine_the_process_engine_is_chosen_and_the_reason_says_why(silent):
    choice = choose(environ=silent)
    assert choice.engine.name == "process"
    assert choice.reason.startswith("process: no container engine answers (no Docker Engine answers at unix://")


def test_docker_asked_for_but_silent_is_an_error_with_a_remedy(silent):
    with pytest.raises(EngineUnavailable, match="start Docker"):
        choose("docker", silent)


def test_the_name_wins_over_the_variable(silent):
    assert choose("process", {**silent, "CPR_ENGINE": "docker"}).engine.name == "process"
    assert choose(environ={**silent, "CPR_ENGINE": "process"}).reason.startswith("process: a process of this machine")


def test_an_unknown_engine_is_refused_with_the_known_ones(silent):
    with pytest.raises(ConfigError, match='CPR_ENGINE is "rocket"; it is one of auto, docker, process'):
        choose(environ={**silent, "CPR_ENGINE": "rocket"})
    with pytest.raises(ConfigError, match="rocket"):
        choose("rocket", silent)


def test_an_engine_that_takes_the_call_and_never_answers_is_silent_too(tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/mute.sock")
        listener.listen()
        with pytest.raises(EngineUnavailable):
            choose("docker", {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/mute.sock"})


@pytest.mark.parametrize("host", ["tcp://h:abc", "tcp://[::1", "nonsense://x"])
def test_settings_of_docker_that_make_no_sense_are_a_silent_engine(silent, host):
    with pytest.raises(EngineUnavailable):
        choose("docker", {**silent, "DOCKER_HOST": host})
    assert choose(environ={**silent, "DOCKER_HOST": host}).engine.name == "process"
