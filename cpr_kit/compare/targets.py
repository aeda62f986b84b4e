"""The two sides: a folder, an image, a URL or an endpoint, each opened so that it is asked the same way."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cpr_kit.compare.asking import Ask, Server
from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy.predict.asking import Asker
from cpr_kit.errors import DeclinedError, LackingError, UsageError
from cpr_kit.harness.endpoint import LocalEndpoint
from cpr_kit.harness.target import Target

if TYPE_CHECKING:
    from cpr_kit.engine.protocol import Engine

Kind = Literal["container", "URL", "endpoint"]
Report = Callable[[str], None]

_RESOURCE = re.compile(r"projects/([^/]+)/locations/([^/]+)/endpoints/([^/]+)")
_LOG_LINES = 10


def _no_log() -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A side that answers. `start_s` is what its container took until it may have traffic, None where it ran before.

    `renew` gives up the connections: a server closes what was silent for seconds, perhaps just as it is used again.
    """

    ask: Ask
    renew: Callable[[], None]
    start_s: float | None = None
    log: Callable[[], str] = _no_log
    """The end of the container's log."""


@dataclass(frozen=True)
class Side:
    """What is compared; it runs, and can be asked, while `open()` is entered."""

    name: str
    kind: Kind
    open: Callable[[], AbstractContextManager[Opened]]


def server(name: str, target: Target) -> Side:
    @contextlib.contextmanager
    def opened() -> Iterator[Opened]:
        with Server(target) as asks:
            yield Opened(ask=asks, renew=asks.close)

    return Side(name, "URL", opened)


def container(name: str, make: Callable[[], LocalEndpoint]) -> Side:
    @contextlib.contextmanager
    def opened() -> Iterator[Opened]:
        began = time.monotonic()
        with make() as running:
            start_s = time.monotonic() - began
            with Server(Target.of(running)) as asks:
                yield Opened(ask=asks, renew=asks.close, start_s=start_s, log=lambda: _tail(running))

    return Side(name, "container", opened)


def endpoint(name: str, make: Callable[[], AbstractContextManager[Asker]]) -> Side:
    @contextlib.contextmanager
    def opened() -> Iterator[Opened]:
        with make() as asker:
            yield Opened(
                ask=lambda request: asker.predict(request.body, request.content_type),
                renew=asker.close,
            )

    return Side(name, "endpoint", opened)


Subject = Side | ContainerSpec | Asker | str | os.PathLike[str]
"""A folder, an image's name or how it is started, a URL, an endpoint's full resource name, or whoever asks one."""


def of(subject: Subject, engine: Engine | None = None, report: Report = lambda _: None) -> Side:
    """A folder is built now. Raises LackingError for an image that is not here, DeclinedError for an endpoint."""
    if isinstance(subject, Side):
        return subject
    if isinstance(subject, ContainerSpec):
        return container(subject.image_uri, lambda: LocalEndpoint(subject, _engine(engine)))
    if isinstance(subject, Asker):
        name = subject.endpoint.display_name or subject.endpoint.id
        return endpoint(name, lambda: contextlib.nullcontext(subject))
    return _named(os.fspath(subject), engine, report)


def _named(name: str, engine: Engine | None, report: Report) -> Side:
    if name.startswith(("http://", "https://")):
        return server(name, Target.at(name))
    if Path(name).is_dir():
        return _of_folder(name, _engine(engine), report)
    if name.startswith("projects/"):
        return _of_resource(name, report)
    chosen = _engine(engine)
    if not chosen.image(name):
        raise LackingError(f'"{name}" is no folder here, and the {chosen.name} engine has no image of that name')
    return container(name, lambda: LocalEndpoint(ContainerSpec(image_uri=name), chosen))


def _of_folder(name: str, engine: Engine, report: Report) -> Side:
    from cpr_kit.build import image
    from cpr_kit.config import Config

    config = Config.read(Path(name).resolve())
    spec = image.build(config, engine, output=report)
    return container(name, lambda: LocalEndpoint(spec, engine, artifact_uri=config.artifact_uri))


def _of_resource(name: str, report: Report) -> Side:
    from cpr_kit.deploy.vertex.client import Vertex

    match = _RESOURCE.fullmatch(name)
    if match is None:
        form = "projects/PROJECT/locations/REGION/endpoints/ENDPOINT"
        raise UsageError(f'"{name}" is no endpoint\'s name; write {form}')
    project, region, wanted = match.groups()
    vertex = Vertex(project, region, report=report)
    found = vertex.endpoint(wanted)
    if found is None:
        there = ", ".join(each.display_name or each.id for each in vertex.endpoints()) or "none"
        raise DeclinedError(
            f'project {project} has no endpoint "{wanted}" in {region}', f"name one that is there: {there}"
        )
    return endpoint(name, lambda: Asker(found, project, region))


def _engine(engine: Engine | None) -> Engine:
    from cpr_kit.engine.choose import choose

    return engine or choose().engine


def _tail(running: LocalEndpoint) -> str:
    lines = running.container.logs().rstrip().splitlines() if running.container else []
    return "\n".join(lines[-_LOG_LINES:])
