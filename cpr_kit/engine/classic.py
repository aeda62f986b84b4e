"""Docker's classic builder, through the engine's API: its messages as lines, and an end that leaves nothing.

It keeps the image of every step, untagged, as its cache. Of a build that was not finished the steps that this very
build made are removed; those of a finished one stay, so that the next build has its dependencies.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpr_kit.engine import causes, leftovers
from cpr_kit.engine.protocol import Build, Output
from cpr_kit.engine.reaper import FULL
from cpr_kit.errors import BuildError

_IMAGE = re.compile(r" ---> ([0-9a-f]{12,64})\s*\Z")
_CONTAINER = re.compile(r" ---> Running in ([0-9a-f]{12,64})\s*\Z")
_FROM_CACHE = " ---> Using cache"
_BUILT = re.compile(r"Successfully built ([0-9a-f]{12,64})\s*\Z")
_END_WAIT_S = 15.0
_SHORT = 12  # as many digits as the builder shows of an id
_PAUSE_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A client for one build alone, since its connection is closed to end it; and whether its engine is still there.

    `notes` is the folder where builds note what they make.
    """

    api: Any
    answers: Callable[[], bool]
    notes: Path


@dataclass
class Made:
    """What the engine made for one build so far, by the builder's own lines."""

    images: list[str] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    stage: str = ""  # the image that the last finished stage came to
    finished: bool = False
    is_cached: bool = False  # the image that comes next

    def since(self, before: set[str]) -> tuple[list[str], list[str]]:
        """Images and containers that were not there before. Both are short forms, `before` has them in full."""
        known = {each.removeprefix("sha256:")[:_SHORT] for each in before}
        images, containers = (
            [each for each in ids if each[:_SHORT] not in known] for ids in (self.images, self.containers)
        )
        return images, containers

    def note(self, line: str) -> None:
        if line == _FROM_CACHE:
            self.is_cached = True
        elif found := _IMAGE.fullmatch(line):
            if not self.is_cached:  # else another build made it, which may run at this moment
                self.images.append(found[1])
            self.is_cached = False
        elif found := _CONTAINER.fullmatch(line):
            self.containers.append(found[1])
        elif found := _BUILT.fullmatch(line):
            # A program in the build may print this too, but does not know the image that comes of it.
            self.finished = self.stage.startswith(found[1])


def build(connection: Connection, request: Build, output: Output) -> bool:
    """Whether it succeeded; every line goes to `output`. Raises BuildError when it could not even start.

    However it fails, Ctrl-C too: the engine is made to stop, and what the build made is removed.
    """
    api, made = connection.api, Made()
    engine = _identity(api)
    for images, containers in leftovers.take(connection.notes, engine):
        _remove(api, Made(images=images, containers=containers), set())
    before = set(_ids(api))
    note = leftovers.Note(connection.notes, engine)
    try:
        with _messages(api, request) as messages:
            _relay(messages, made, output, lambda: note.write(*made.since(before)))
    finally:
        removed = not made.finished and connection.answers() and _remove(api, made, before)
        if made.finished or removed:
            note.remove()
        else:
            note.leave()
    return made.finished


def platform_of(api: Any, image: str) -> str | None:
    """What an image that the engine has is for; None where it has none."""
    import docker

    try:
        found = api.inspect_image(image)
    except (docker.errors.DockerException, OSError):
        return None
    return f"{found['Os']}/{found['Architecture']}"


@contextlib.contextmanager
def _messages(api: Any, request: Build) -> Iterator[Iterator[Mapping[str, Any]]]:
    """The engine's messages. Leaving closes the connection, and the engine then stops a build that still runs."""
    responses: list[Any] = []

    def keep(response: Any, **_: object) -> None:
        responses.append(response)

    api.hooks["response"].append(keep)
    try:
        # A file without a name: it is gone with this program, however that ends.
        with tempfile.TemporaryFile() as archive:
            yield _started(api, request, archive)
    finally:
        api.hooks["response"].remove(keep)
        for response in responses:
            response.close()


def _started(api: Any, request: Build, archive: Any) -> Iterator[Mapping[str, Any]]:
    import docker

    _pack(request.context, archive)
    try:
        messages: Iterator[Mapping[str, Any]] = api.build(
            fileobj=archive,
            custom_context=True,
            tag=request.tag,
            buildargs=dict(request.args),
            platform=request.platform,
            nocache=request.no_cache,
            rm=True,
            forcerm=True,
            decode=True,
        )
    except (docker.errors.DockerException, OSError) as exc:
        error = BuildError("the start of the build", (str(getattr(exc, "explanation", None) or exc),))
        raise causes.explained(error, platform=request.platform) from exc
    return messages


def _pack(context: Path, archive: Any) -> None:
    import docker.utils

    ignored = context / ".dockerignore"
    patterns = ignored.read_text("utf-8").splitlines() if ignored.exists() else []
    try:
        docker.utils.tar(
            context,
            exclude=[line.strip() for line in patterns if line.strip() and not line.startswith("#")],
            dockerfile=("Dockerfile", None),
            fileobj=archive,
        )
    except OSError as exc:
        if exc.errno in FULL:
            raise  # of this machine's disk, as its folder was on
        raise BuildError("the start of the build", (str(exc),)) from exc


def _relay(messages: Iterator[Mapping[str, Any]], made: Made, output: Output, written: Callable[[], None]) -> None:
    """The messages as lines, one of which may come in several messages, up to the end or an error."""
    pending = ""
    for message in _until_lost(messages):
        if "error" in message:
            made.finished = False
            for line in (pending + str(message["error"])).splitlines():
                output(line)
            return
        *lines, pending = (pending + message.get("stream", "")).split("\n")
        for line in lines:
            made.note(line)
            if line.startswith(" ---> "):
                written()
            output(line)
        if "status" in message and "progress" not in message:
            output(f"{message.get('id', '')} {message['status']}".strip())
        made.stage = str((message.get("aux") or {}).get("ID") or made.stage).removeprefix("sha256:")
    if pending:
        output(pending)
    if not made.finished:
        output("the engine ended the connection before the build had ended")


def _until_lost(messages: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The messages, which end where the connection does. A refusal before the first one is one."""
    import docker
    import urllib3

    try:
        yield from messages
    except docker.errors.APIError as exc:
        yield {"error": exc.explanation or exc}
    except (docker.errors.DockerException, urllib3.exceptions.HTTPError, ConnectionError, ValueError):
        return


def _ids(api: Any) -> Iterator[str]:
    """Every image and container that the engine has."""
    import docker

    with contextlib.suppress(docker.errors.DockerException, OSError):
        yield from (str(each["Id"]) for each in (*api.images(all=True), *api.containers(all=True)))


def _identity(api: Any) -> str:
    import docker

    with contextlib.suppress(docker.errors.DockerException, OSError):
        return str(api.info().get("ID") or "")
    return ""


def _remove(api: Any, made: Made, before: set[str]) -> bool:
    """Remove what the build made, the newest first. What another one uses meanwhile stays: the engine refuses.

    A program in the build may print what looks like the builder's own lines, so nothing older is touched.
    """
    import docker

    with contextlib.suppress(docker.errors.DockerException, OSError):
        _wait(api, made)
        for short in made.containers:
            with contextlib.suppress(docker.errors.APIError):
                container = api.inspect_container(short)["Id"]
                if container not in before:
                    api.remove_container(container, force=True, v=True)
        for short in reversed(made.images):
            with contextlib.suppress(docker.errors.APIError):
                image = api.inspect_image(short)
                if image["Id"] not in before and not image["RepoTags"] and not image.get("RepoDigests"):
                    api.remove_image(image["Id"], noprune=True)
        return True
    return False


def _wait(api: Any, made: Made) -> None:
    """Until the engine has stopped the last container of the build, which it does after the connection ended."""
    import docker

    deadline = time.monotonic() + _END_WAIT_S
    with contextlib.suppress(docker.errors.NotFound):
        while made.containers and time.monotonic() < deadline:
            api.inspect_container(made.containers[-1])
            time.sleep(_PAUSE_S)
