from __future__ import annotations

import time


from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contexts import write_context

from cpr_kit.engine import ports
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Build, Container, Engine, Image


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context")


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The test server as an image of `engine`."""
    tag = "cpr-kit-tests/server:1"
    yield engine.build(Build(context=write_context(tmp_path_factory.mktemp("c") / "context"), tag=tag), lambda _: None)
    engine.remove_image(tag)


@pytest.fixture
def started() -> Iterator[list[Container]]:
    """Put containers in; they are removed afterwards."""
    containers: list[Container] = []
    yield containers
    for container in containers:
        container.remove(0)


def _wait_for(check: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"still not true after {timeout_s} s"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., Any]:
    return _wait_for


@pytest.fixture
def free_port() -> int:
    return ports.free()


@pytest.fixture(scope="session")
def docker_engine() -> Engine:
    return choose("docker").engine


@pytest.fixture(scope="session")
def server_image(docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The test server as an image of Docker."""
    tag = "cpr-kit-tests/server:2"
    context = write_context(tmp_path_factory.mktemp("c") / "context")
    yield docker_engine.build(Build(context=context, tag=tag), lambda _: None)
    docker_engine.remove_image(tag)
