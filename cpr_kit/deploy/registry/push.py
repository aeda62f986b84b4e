"""An image of this machine's engine to a registry: only the layers that it lacks, and the digest that it then has."""

from __future__ import annotations

import re
from typing import Protocol, runtime_checkable

from cpr_kit.deploy.registry import check, credentials
from cpr_kit.deploy.registry.names import Name, asked_at, stays_in_engine
from cpr_kit.deploy.registry.progress import Progress, megabytes
from cpr_kit.deploy.registry.remote import Remote, located, remote
from cpr_kit.deploy.vertex.calls import Report, silent
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.protocol import Engine
from cpr_kit.engine.registry import kept
from cpr_kit.errors import ConfigError, EngineUnavailable, LackingError, RegistryError

_EVENT = re.compile(r"(?P<layer>[0-9a-f]{12}) (?P<status>.+?)(?: (?P<done>\d+)/(?P<total>\d+))?")
_KEPT = ("Layer already exists", "Mounted from")


@runtime_checkable
class _Names(Protocol):
    """An engine whose images may have more than one name."""

    def tag(self, source: str, target: str) -> None: ...


def push(engine: Engine, reference: str, *, source: str | None = None, report: Report = silent) -> Remote:
    """Send `source`, or the image that is named so already, as `reference`; what the registry then has.

    Nothing is sent where the registry has that very image under that very name. Raises LackingError without the
    image, UsageError for a platform that Vertex AI does not run, RegistryError where the registry refuses.
    """
    if Name.parse(reference).digest:
        raise ConfigError(f"{reference} names a digest, which comes of a push; give a tag")
    image = located(engine, source or reference)
    if image is None:
        raise LackingError(f"there is no image {source or reference} here; build it: cpr build DIR -t {reference}")
    if isinstance(engine, DockerEngine):  # a process is this machine's in any case
        check.platform(image)
    if stays_in_engine(reference):
        _named(engine, source, reference)
        report(f"{reference} stays in the {engine.name} engine: there is no registry under this cpr emulate")
        return _known(reference, located(engine, reference), kept(engine.image(reference), reference))
    there = remote(reference)
    if there is not None and there.is_same(image):
        report(f"{reference} is there already: {there.digest}")
        return there
    if not isinstance(engine, DockerEngine):
        raise EngineUnavailable("only a container engine has images that a registry takes; start Docker")
    _named(engine, source, reference)
    report(f"pushing {reference}, {megabytes(image.size)} unpacked")
    digest = _sent(engine, reference, report)
    return _known(reference, remote(reference), digest)


def _named(engine: Engine, source: str | None, reference: str) -> None:
    if source is None or source == reference:
        return
    if not isinstance(engine, _Names):
        raise LackingError(f"the {engine.name} engine gives an image one name alone; build it as {reference}")
    engine.tag(source, reference)


def _sent(engine: DockerEngine, reference: str, report: Report) -> str:
    lines = _Lines(report)
    digest = engine.push(reference, lines, auth=_auth(reference))
    report(lines.summary())
    return digest


def _auth(reference: str) -> dict[str, str]:
    """For the engine: the same login as for all else here. Empty is nobody's."""
    login = credentials.find(asked_at(reference).host).login
    if login is None:
        return {}
    if login.identity_token:
        return {"identitytoken": login.identity_token}
    return {"username": login.username, "password": login.password}


def _known(reference: str, found: Remote | None, digest: str) -> Remote:
    """What the registry says it has, against what the engine says it sent."""
    if found is None or found.digest != digest:
        raise RegistryError(
            f"{digest} was sent as {reference}, but the registry has {found.digest if found else 'nothing'} there",
            "somebody else pushed the same name at the same time, or the registry lost it; push again",
        )
    return found


class _Lines:
    """Takes the engine's lines, each about one layer; gives a few that a person reads."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._progress = Progress(report, "pushing")
        self._sizes: dict[str, tuple[int, int]] = {}
        self._ends: dict[str, str] = {}

    def __call__(self, line: str) -> None:
        match = _EVENT.fullmatch(line)
        if match is None:
            return
        layer, status = match["layer"], match["status"]
        if match["done"] is not None:
            self._sizes[layer] = (int(match["done"]), int(match["total"]))
            done, total = (sum(each) for each in zip(*self._sizes.values(), strict=True))
            self._progress.at(done, max(done, total))
        elif status.startswith("Retrying"):
            self._report(f"the connection broke at layer {layer}: {status[0].lower()}{status[1:]}")
        elif status == "Pushed" or status.startswith(_KEPT):
            self._ends[layer] = status

    def summary(self) -> str:
        sent = [layer for layer, end in self._ends.items() if end == "Pushed"]
        size = sum(self._sizes.get(layer, (0, 0))[0] for layer in sent)
        there = len(self._ends) - len(sent)
        return f"{len(sent)} layers sent ({megabytes(size)} unpacked), {there} were there already"
