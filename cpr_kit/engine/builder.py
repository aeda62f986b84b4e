"""The two ways to build with Docker: BuildKit through a command line client, or the classic builder through the API."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cpr_kit.engine import causes, classic, command, platforms, progress
from cpr_kit.engine.classic import Connection
from cpr_kit.engine.progress import Steps
from cpr_kit.engine.protocol import Build, Output
from cpr_kit.errors import BuildError, ConfigError

_DEBIAN_CLIENT = "/usr/bin/docker"
_FIRST_WITHOUT_BUILDKIT = 23
_PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Builder:
    """`command` starts a BuildKit build; without one the classic builder is used. `reason` says why."""

    command: tuple[str, ...] = ()
    reason: str


def find(name: str | None, environ: Mapping[str, str] = os.environ) -> Builder:
    """The builder called `name` (`buildkit`, `classic`), or without a name the best this machine has."""
    if name == "classic":
        return Builder(reason="builder: classic, as asked for")
    if name not in (None, "buildkit"):
        raise ConfigError(f'the builder is "{name}"; it is buildkit or classic')
    clients = list(_clients(environ))
    for client in clients:
        if argv := _buildkit(client):
            return Builder(command=argv, reason=f"builder: BuildKit, through {' '.join(argv)}")
    lack = "no docker client here" if not clients else f"{', '.join(clients)} without buildx"
    if name == "buildkit":
        raise ConfigError(f"BuildKit was asked for, but: {lack}; install docker-buildx-plugin")
    return Builder(reason=f"builder: classic, since there is {lack}")


def build(builder: Builder, connection: Connection, request: Build, output: Output, environ: Mapping[str, str]) -> None:
    """Run the build; every line goes to `output`. Raises BuildError with the step that failed, and why."""
    output(builder.reason)
    steps = Steps()

    def relay(line: str) -> None:
        line = progress.plain(line)
        steps.feed(line)
        output(line)

    if builder.command:
        argv = [*builder.command, *_arguments(request), str(request.context)]
        done = command.stream(argv, relay, env={**environ, "DOCKER_BUILDKIT": "1"}) == 0
    else:
        _check_bases(connection, request)
        done = classic.build(connection, request, relay)
    if not done:
        raise _explained(steps.error(), connection, request)


def _clients(environ: Mapping[str, str]) -> Iterator[str]:
    """Every docker on PATH, in its order, then Debian's, which has BuildKit built in."""
    folders = [*environ.get("PATH", os.defpath).split(os.pathsep), str(Path(_DEBIAN_CLIENT).parent)]
    seen = set()
    for folder in folders:
        path = shutil.which("docker", path=folder)
        if path and os.path.realpath(path) not in seen:
            seen.add(os.path.realpath(path))
            yield path


def _buildkit(client: str) -> tuple[str, ...] | None:
    if _answer(client, "buildx", "version") is not None:
        return client, "buildx", "build", "--load"
    version = _answer(client, "version", "--format", "{{.Client.Version}}") or ""
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < _FIRST_WITHOUT_BUILDKIT:
        return client, "build"
    return None


def _answer(*argv: str) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _arguments(request: Build) -> Iterator[str]:
    yield from ("--progress", "plain", "--tag", request.tag)
    for name, value in request.args.items():
        yield from ("--build-arg", f"{name}={value}")
    if request.platform:
        yield from ("--platform", request.platform)
    if request.no_cache:
        yield "--no-cache"


def _check_bases(connection: Connection, request: Build) -> None:
    """The classic builder takes what is here under a name, for whatever platform it is."""
    dockerfile = (request.context / "Dockerfile").read_text("utf-8", "replace")
    for image in sorted(platforms.bases(dockerfile, request.args)):
        have = classic.platform_of(connection.api, image) if request.platform else None
        if have and request.platform and not platforms.matches(have, request.platform):
            raise causes.told(BuildError(f"FROM {image}"), causes.other_platform(image, have, request.platform))


def _explained(error: BuildError, connection: Connection, request: Build) -> BuildError:
    """The error with why and what to do, as far as its lines and the engine tell."""
    if not connection.answers():
        return causes.told(error, causes.GONE)
    image = causes.missing_image(error)
    have = classic.platform_of(connection.api, image) if image and request.platform else None
    if image and have and request.platform and not platforms.matches(have, request.platform):
        return causes.told(error, causes.other_platform(image, have, request.platform))
    return causes.explained(error, platform=request.platform)
