from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import LABEL, Engine
from cpr_kit.errors import LackingError

# A test is not to fail for a machine that is busy: no timed unit tests.
settings.register_profile("cpr", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cpr")


@functools.cache
def _lack() -> str | None:
    """Why no container engine can be used here; None where one answers."""
    try:
        choose("docker")
    except LackingError as error:
        return str(error)
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("engine") and (lack := _lack()):
        if os.environ.get("CPR_REQUIRE_ENGINE") == "1":
            pytest.fail(f"CPR_REQUIRE_ENGINE=1, but {lack}")
        pytest.skip(lack)


@pytest.fixture(scope="session", params=[pytest.param("docker", marks=pytest.mark.engine), "process"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Both engines, one after the other."""
    if request.param == "docker" and (lack := _lack()):
        pytest.skip(lack)
    return choose(request.param).engine


@pytest.fixture(scope="session", autouse=True)
def no_container_is_left() -> Iterator[None]:
    """Once all tests are done, no container carries the kit's label whose program is this one or has ended."""
    yield
    if _lack():
        return
    deadline = time.monotonic() + 15
    while (left := _left_containers()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left, f"containers were left behind: {left}"


def _left_containers() -> list[str]:
    import docker

    with contextlib.closing(docker.from_env()) as client:
        containers = client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
        owners = {container.name: int(container.labels[LABEL].partition("-")[0]) for container in containers}
    return [name for name, pid in owners.items() if pid == os.getpid() or not Path(f"/proc/{pid}").exists()]
