"""One folder as an image both ways: how large, how long to build, how fast and how heavy where it runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from cpr_kit.config import Config
from cpr_kit.engine.protocol import Engine, Output
from cpr_kit.errors import ContainerError, PredictionError, UsageError
from cpr_kit.harness.difference import difference
from cpr_kit.migrate import measure, sides, upstream
from cpr_kit.migrate.measure import Effort, Request, Run
from cpr_kit.migrate.sides import Kit, Side, Upstream

_MEGABYTE = 10**6


@dataclass(frozen=True, kw_only=True)
class Figures:
    """MB (10**6 bytes of an image, 2**20 of memory), seconds, answers a second. `answer` is the first one.

    `fault` says why an image did not serve; then there is nothing of its start, its memory and its answers.
    """

    size_mb: float
    added_mb: float
    build_s: float
    rebuild_s: float
    reinstalls: bool
    start_s: float | None
    memory_mb: float | None
    rate: float | None
    fault: str = ""
    answer: bytes = field(default=b"", repr=False)

    def facts(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "answer"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`differs` says where the two first answers differ, None where they do not."""

    before: Figures
    after: Figures
    differs: str | None
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        return {
            "before": self.before.facts(),
            "after": self.after.facts(),
            "same_answer": self.differs is None,
            "difference": self.differs,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is compared. With `warm`, each side builds once more before, so that neither is the first to fetch."""

    config: Config
    request: Request | None = None
    effort: Effort = field(default_factory=Effort)
    warm: bool = True


def compare(subject: Subject, engine: Engine, output: Output) -> Comparison:
    """Raises LackingError without the SDK, UsageError for a folder with a Dockerfile of its own."""
    config = subject.config
    if config.image.dockerfile is not None:
        raise UsageError(
            f"{config.folder} has a Dockerfile of its own, which makes one and the same image both ways; "
            "name a class to compare the kit's: --predictor module:Class"
        )
    version = upstream.version()
    with sides.base(config, engine, output) as base:
        output(f"before: google-cloud-aiplatform {version}, from {config.image.base}")
        before = figures(Upstream, subject, engine, base, output)
        output(f"after: cpr_kit, from {config.image.base}")
        after = figures(Kit, subject, engine, base, output)
    return Comparison(
        before=before,
        after=after,
        differs=_differs(before.answer, after.answer),
        notes=_notes(subject, version, before),
    )


def figures(kind: type[Side], subject: Subject, engine: Engine, base: str, output: Output) -> Figures:
    """One side, from its first build to its requests a second. `base` is what `sides.base` gave."""
    with sides.opened(kind, subject.config, engine, base, output) as side:
        if subject.warm:
            side.build()
        built = side.build(no_cache=True)
        ran, fault = _run(side, subject, engine)
        size, below = (_size(engine, reference) for reference in (side.tag, base))
        side.edit()
        rebuilt = side.build()
        return Figures(
            size_mb=size,
            added_mb=size - below,
            build_s=built.seconds,
            rebuild_s=rebuilt.seconds,
            reinstalls=rebuilt.installed,
            start_s=ran.start_s if ran else None,
            memory_mb=ran.memory_mb if ran else None,
            rate=ran.rate if ran else None,
            fault=fault,
            answer=ran.answer if ran else b"",
        )


def _run(side: Side, subject: Subject, engine: Engine) -> tuple[Run | None, str]:
    """That the SDK's image does not serve is an outcome; that the kit's does not is an error."""
    uri, request, effort = side.config.artifact_uri, subject.request, subject.effort
    try:
        return measure.run(side.spec, engine, artifacts=uri, request=request, effort=effort), ""
    except (ContainerError, PredictionError) as error:
        if not isinstance(side, Upstream):
            raise
        return None, str(error).partition("\n")[0]


def _size(engine: Engine, reference: str) -> float:
    image = engine.image(reference)
    return image.size / _MEGABYTE if image else 0.0


def _differs(before: bytes, after: bytes) -> str | None:
    if before == after or not before:
        return None
    try:
        return difference(json.loads(before), json.loads(after))
    except ValueError:
        return f"expected {before[:100]!r}, got {after[:100]!r}"


def _notes(subject: Subject, version: str, before: Figures) -> tuple[str, ...]:
    effort = subject.effort
    notes = [f"before: google-cloud-aiplatform {version}; both from {subject.config.image.base}, with the same builder"]
    if before.fault:
        notes.append(f"before did not serve: {before.fault}")
    if subject.warm:
        notes.append("each way was built once before, then timed without the engine's cache")
    if sides.has_settings():
        notes.append("the base carries this machine's settings for pip, which the SDK has no way to pass to its build")
    if subject.request is None:
        notes.append("no request was given, so starts are timed to the first 200 of the health route: --request FILE")
    else:
        notes.append(f"requests/s over {effort.connections} kept connections; client and container share this machine")
    return tuple(notes)
