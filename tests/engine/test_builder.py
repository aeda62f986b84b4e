from __future__ import annotations

from pathlib import Path

import pytest

from cpr_kit.engine import builder
from cpr_kit.errors import ConfigError


@pytest.fixture
def client(tmp_path):
    """Put a docker client on a PATH of its own: one with buildx or not, of some version."""

    def client(folder: str, *, buildx: bool, version: str) -> str:
        path = tmp_path / folder / "docker"
        path.parent.mkdir()
        path.write_text(f'#!/bin/sh\n[ "$1" = buildx ] && exit {0 if buildx else 1}\necho {version}\n')
        path.chmod(0o755)
        return str(path)

    return client


@pytest.fixture(autouse=True)
def no_debian_client(monkeypatch, tmp_path):
    monkeypatch.setattr(builder, "_DEBIAN_CLIENT", str(tmp_path / "debian" / "docker"))


def path(*clients: str) -> dict[str, str]:
    return {"PATH": ":".join(str(Path(client).parent) for client in clients)}


def test_the_first_client_that_has_buildkit_is_taken(client):
    plain = client("a", buildx=False, version="28.2.2")
    old = client("b", buildx=False, version="20.10.24+dfsg1")
    new = client("c", buildx=True, version="28.2.2")
    assert builder.find(None, path(plain, old, new)).command == (old, "build")
    assert builder.find(None, path(plain, new, old)).command == (new, "buildx", "build", "--load")


def test_debians_client_is_found_outside_of_path(client, tmp_path):
    plain = client("a", buildx=False, version="28.2.2")
    debian = client("debian", buildx=False, version="20.10.24")
    assert builder.find(None, path(plain)).command == (debian, "build")


def test_the_classic_builder_is_the_last_resort_and_says_why(client):
    plain = client("a", buildx=False, version="28.2.2")
    found = builder.find(None, path(plain))
    assert found.command == ()
    assert found.reason == f"builder: classic, since there is {plain} without buildx"
    assert builder.find(None, {"PATH": ""}).reason == "builder: classic, since there is no docker client here"


def test_a_builder_can_be_forced(client):
    new = client("c", buildx=True, version="28.2.2")
    assert builder.find("classic", path(new)).command == ()
    with pytest.raises(ConfigError, match="BuildKit was asked for"):
        builder.find("buildkit", {"PATH": ""})
    with pytest.raises(ConfigError, match="kaniko"):
        builder.find("kaniko", path(new))
