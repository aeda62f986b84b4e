"""Two models asked the same: how far their answers are apart, and how fast each is.

    from cpr_kit.compare import api

    found = api.compare("bert", "bert-int8", "sentences.jsonl", rates=[5, 20])
    assert found.passed, found.verdict.reasons

A side is a folder (it is built and started), an image, a ContainerSpec, a URL, an endpoint's full resource name, or an
Asker of one, which knows the address of an endpoint with Private Service Connect.

Two containers run side by side, and one of them is asked at a time: an idle one takes memory, and of the processor next
to nothing. One after the other, whatever else this machine does in the second half would be held against B.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpr_kit.compare import asking, figures, pace, targets, verdict
from cpr_kit.compare import requests as reading
from cpr_kit.compare.asking import Failure, Guard
from cpr_kit.compare.comparison import About, Comparison
from cpr_kit.compare.pace import Load
from cpr_kit.compare.requests import Request
from cpr_kit.compare.targets import Opened, Side, Subject
from cpr_kit.compare.verdict import Limits
from cpr_kit.deploy.predict.asking import UNREACHED, Answer
from cpr_kit.engine.protocol import Engine
from cpr_kit.errors import ContainerError, LackingError, UsageError

__all__ = ["Comparison", "Effort", "Limits", "Request", "Side", "Subject", "compare", "run"]

Progress = Callable[[str], None]
_MOST_REQUESTS = 1_000_000
"""Of one side at one rate: each arrival is kept for the percentiles."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """`seconds` are those of one side at one rate; `warm_up` requests go before the first rate, and are not timed."""

    rates: Sequence[float] = ()
    seconds: float = 10.0
    warm_up: int = 20

    def check(self) -> None:
        for rate in self.rates:
            if not 0 < rate < float("inf"):
                raise UsageError(f"a rate of {rate:g} requests a second cannot be; give more than 0")
            if rate * self.seconds > _MOST_REQUESTS:
                raise UsageError(
                    f"{rate:g} requests a second for {self.seconds:g} s are more than {_MOST_REQUESTS:,} requests; "
                    "give a lower rate, or fewer seconds"
                )
        if not 0 < self.seconds < float("inf"):
            raise UsageError(f"{self.seconds:g} seconds at a rate cannot be; give more than 0")
        if self.warm_up < 0:
            raise UsageError(f"a warm-up of {self.warm_up} requests cannot be; give 0 or more")


def silent(_text: str) -> None:
    pass


def compare(
    a: Subject,
    b: Subject,
    requests: str | os.PathLike[str] | Iterable[Any],
    *,
    rows: int = 1,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    rates: Sequence[float] = (),
    seconds: float = 10.0,
    warm_up: int = 20,
    worst: int = 5,
    engine: Engine | None = None,
    progress: Progress = silent,
) -> Comparison:
    """`requests` is a file or a folder, or a list of bodies and instances; `rows` instances share a request.

    Everything is read, and both folders are built, before anybody is asked. Raises UsageError, LackingError and
    DeclinedError for a side that is not there or cannot be reached, ContainerError for one that does not start; errors
    of single requests are in the result.
    """
    read = (
        reading.read(Path(requests), rows=rows)
        if isinstance(requests, str | os.PathLike)
        else reading.of_values(requests, rows=rows)
    )
    effort = Effort(rates=rates, seconds=seconds, warm_up=warm_up)
    limits.check()
    effort.check()
    sides = [targets.of(each, engine, progress) for each in (a, b)]
    return run(sides[0], sides[1], read, limits=limits, effort=effort, worst=worst, progress=progress)


def run(
    a: Side,
    b: Side,
    requests: Sequence[Request],
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    effort: Effort = Effort(),
    worst: int = 5,
    progress: Progress = silent,
) -> Comparison:
    """The same for sides that have been made already, and requests that have been read."""
    limits.check()
    effort.check()
    with contextlib.ExitStack() as stack:
        work = _Work(requests, progress)
        abouts = {letter: work.begin(letter, side, stack) for letter, side in (("A", a), ("B", b))}
        answers = {letter: work.asked(letter) for letter in ("A", "B")}
        rows, failures = asking.judged(requests, answers["A"], answers["B"])
        work.failures += failures
        loads = work.loads(effort)
        notes = work.notes(abouts)
    found = figures.figures(rows, relative=limits.relative, classes=limits.flips is not None)
    failed = tuple(work.failures)
    return Comparison(
        a=abouts["A"],
        b=abouts["B"],
        requests=len(requests),
        figures=found,
        failures=failed,
        loads=tuple(loads),
        limits=limits,
        verdict=verdict.judge(found, failed, loads, limits),
        notes=tuple(notes),
        shown=worst,
    )


@dataclass
class _Work:
    """Two sides while they are open."""

    requests: Sequence[Request]
    progress: Progress
    opened: dict[str, Opened] = field(default_factory=dict)
    asks: dict[str, Guard] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    skipped: list[float] = field(default_factory=list)

    def begin(self, letter: str, side: Side, stack: contextlib.ExitStack) -> About:
        """Start it, and ask the first request before anything else runs."""
        self.progress(f"{letter}: {'starting' if side.kind == 'container' else 'asking'} {side.name}")
        opened = stack.enter_context(side.open())
        self.opened[letter], self.asks[letter] = opened, Guard(opened.ask)
        first = self.asks[letter](self.requests[0])
        if first.status == UNREACHED:
            raise _lost(letter, side, first, opened)
        if not first.ok:
            self._failed(letter, "the first request", self.requests[0], first)
        return About(
            name=side.name,
            kind=side.kind,
            start_s=opened.start_s,
            first_ms=first.seconds * 1000,
            first_error="" if first.ok else f"{first.status}: {first.message}",
        )

    def asked(self, letter: str) -> list[Answer]:
        self.progress(f"{letter}: {len(self.requests)} requests for the differences")
        self.opened[letter].renew()
        return asking.asked(self.asks[letter], self.requests)

    def loads(self, effort: Effort) -> list[Load]:
        """Nothing at a rate where one of the two no longer answers."""
        found: list[Load] = []
        if effort.rates and not self._lost():
            self._warm_up(effort.warm_up)
        for rate in effort.rates:
            if self._lost():
                self.skipped.append(rate)
                continue
            self.progress(f"{rate:g} requests a second, {effort.seconds:g} s each, in turns")
            renew: Mapping[str, Callable[[], None]] = {letter: each.renew for letter, each in self.opened.items()}
            found += pace.turns(self.asks, renew, self.requests, rate=rate, seconds=effort.seconds).values()
        return found

    def notes(self, abouts: Mapping[str, About]) -> list[str]:
        found = []
        if ran := [letter for letter, about in abouts.items() if about.start_s is None]:
            found.append(f"{' and '.join(ran)} ran before this began: a first request may have met a warm server")
        for letter in self._lost():
            found.append(f"{letter} was asked no more once five requests in a row were not answered")
            if log := self.opened[letter].log():
                found.append(f"the log of {letter} ends with:\n{log}")
        if self.skipped:
            found.append(
                f"not measured, since a side no longer answered: {', '.join(f'{x:g}/s' for x in self.skipped)}"
            )
        return found

    def _warm_up(self, count: int) -> None:
        for letter, ask in self.asks.items():
            some = [self.requests[number % len(self.requests)] for number in range(count)]
            # What failed without a warm-up is known already.
            known = {each.where for each in self.failures if each.side == letter}
            for request, answer in zip(some, asking.asked(ask, some), strict=True):
                if not answer.ok and request.name not in known:
                    self._failed(letter, "the warm-up", request, answer)

    def _lost(self) -> list[str]:
        return [letter for letter, ask in self.asks.items() if ask.gave_up]

    def _failed(self, letter: str, when: str, request: Request, answer: Answer) -> None:
        where = f"{when}, {request.name}"
        self.failures.append(Failure(side=letter, where=where, status=answer.status, message=answer.message))


def _lost(letter: str, side: Side, answer: Answer, opened: Opened) -> Exception:
    if side.kind == "container":
        return ContainerError(f"{letter}, {side.name}, was lost at its first request: {answer.message}", opened.log())
    return LackingError(f"{letter}, {side.name}, does not answer: {answer.message}; start it, or name another")
