"""The two ways to build with Docker: BuildKit through a command line client, or the classic builder through the API."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpr_kit.engine import command, progress
from cpr_kit.engine.progress import Steps
from cpr_kit.engine.protocol import Build, Output
from cpr_kit.errors import BuildError, ConfigError

_DEBIAN_CLIENT = "/usr/bin/docker"
_FIRST_WITHOUT_BUILDKIT = 23
_PROBE_TIMEOUT_S = 10.0
_MISSING = re.compile(
    r"no such host|pull access denied|manifest unknown|not found: manifest|connection refused|i/o timeout"
    r"|unauthorized|repository does not exist|failed to do request|error getting credentials",
    re.IGNORECASE,
)
_FROM = re.compile(r"(?:^|: )FROM (?:--platform=\S+ )?(\S+)|load metadata for (?:docker\.io/(?:library/)?)?(\S+)")


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


def build(builder: Builder, api: Any, request: Build, output: Output, environ: Mapping[str, str]) -> None:
    """Run the build; every line goes to `output`. Raises BuildError with the step that failed."""
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
        done = _classic(api, request, relay)
    if not done:
        raise _failure(steps, request)


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


def _classic(api: Any, request: Build, output: Output) -> bool:
    import docker

    try:
        messages = api.build(
            path=str(request.context),
            tag=request.tag,
            buildargs=dict(request.args),
            platform=request.platform,
            nocache=request.no_cache,
            rm=True,
            forcerm=True,
            decode=True,
        )
        return _relay(messages, output)
    except BrokenPipeError:
        raise  # of whoever read our output
    except (docker.errors.DockerException, OSError) as exc:
        raise BuildError("the start of the build", (str(getattr(exc, "explanation", None) or exc),)) from exc


def _relay(messages: Iterable[Mapping[str, Any]], output: Output) -> bool:
    """The classic builder's messages as lines. A line may come in several messages."""
    pending = ""
    for message in messages:
        if "error" in message:
            for line in (pending + str(message["error"])).splitlines():
                output(line)
            return False
        *lines, pending = (pending + message.get("stream", "")).split("\n")
        for line in lines:
            output(line)
        if "status" in message and "progress" not in message:
            output(f"{message.get('id', '')} {message['status']}".strip())
    if pending:
        output(pending)
    return True


def _failure(steps: Steps, request: Build) -> BuildError:
    """The error, with what to do next where the lines tell it."""
    error = steps.error()
    text = "\n".join((error.step, *error.tail))
    origin = _FROM.search(error.step)
    if origin and _MISSING.search(text):
        image = (origin[1] or origin[2]).rstrip(":")
        platform = f" for {request.platform}" if request.platform else ""
        return steps.error(
            f"this machine has no image {image}{platform}, and no registry gave it;",
            f"run: docker pull {image}    or, without a registry: cpr base {image}",
        )
    if "exec format error" in text:
        return steps.error(f"this engine cannot run {request.platform or 'foreign'} programs; build on such a machine")
    return error
