"""Whether two sides agree within what is allowed, in words with numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpr_kit.compare.asking import Failure
from cpr_kit.compare.figures import Figures
from cpr_kit.compare.pace import Load
from cpr_kit.errors import UsageError

_LONGEST = 160


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is allowed: the largest and the mean difference of numbers, the share of rows with another class.

    The defaults are what a model of reduced precision is to keep. `flips` is None where predictions are no classes.
    With `relative`, both tolerances are shares of the larger of two values.
    """

    tolerance: float = 1e-2
    mean_tolerance: float = 1e-3
    flips: float | None = 0.005
    relative: bool = False

    def check(self) -> None:
        for name, value in (("tolerance", self.tolerance), ("mean tolerance", self.mean_tolerance)):
            if not value >= 0:
                raise UsageError(f"the {name} is {value:g}; it is 0 or more")
        if self.flips is not None and not 0 <= self.flips <= 1:
            raise UsageError(f"the share of other classes is {percent(self.flips)}; it is from 0 % to 100 %")


@dataclass(frozen=True)
class Verdict:
    """`reasons` are sentences: why not, or what was found."""

    passed: bool
    reasons: tuple[str, ...]


def judge(figures: Figures, failures: Sequence[Failure], loads: Sequence[Load], limits: Limits) -> Verdict:
    """An error of either side is a no, also at a rate that was asked for: what it hides cannot be compared."""
    against = [words for side in ("A", "B") for words in _errors(side, failures)]
    against += [_refused(load) for load in loads if load.errors]
    if not figures.rows and not figures.unlike:
        against.append("no row was compared: no request was answered by both")
    if figures.unlike:
        first = figures.differences[0]
        against.append(f"{_rows(figures.unlike)} of another form, such as {first.where}: {one_line(first.fault)}")
    if figures.rows:
        against += [words for exceeded, words in _judged(figures, limits) if exceeded]
    notes = [words for exceeded, words in _judged(figures, limits) if not exceeded]
    return Verdict(not against, tuple(against or notes))


def largest(figures: Figures, limits: Limits) -> float:
    return figures.max_relative if limits.relative else figures.max_absolute


def mean(figures: Figures, limits: Limits) -> float:
    return figures.mean_relative if limits.relative else figures.mean_absolute


def percent(share: float) -> str:
    """Three digits.

    >>> percent(0.005), percent(1)
    ('0.5 %', '100 %')
    """
    return f"{share * 100:.3g} %"


def one_line(words: str) -> str:
    """A server's words beside other ones: an error may be a page."""
    line = " ".join(words.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _judged(figures: Figures, limits: Limits) -> list[tuple[bool, str]]:
    kind = "relative difference" if limits.relative else "difference"
    found = [
        (value > allowed, f"the {name} {kind} is {value:.3g}, allowed {allowed:g}")
        for name, value, allowed in (
            ("largest", largest(figures, limits), limits.tolerance),
            ("mean", mean(figures, limits), limits.mean_tolerance),
        )
        if figures.numbers
    ]
    if limits.flips is not None and figures.classes:
        words = f"{figures.flips} of {figures.classes} rows have another class ({percent(figures.flip_share)})"
        found.append((figures.flip_share > limits.flips, f"{words}, allowed {percent(limits.flips)}"))
    return found or [(False, "all answers are the same, and hold neither numbers nor classes")]


def _errors(side: str, failures: Sequence[Failure]) -> list[str]:
    mine = [each for each in failures if each.side == side]
    if not mine:
        return []
    first = mine[0]
    count = "a request" if len(mine) == 1 else f"{len(mine)} requests"
    more = "" if len(mine) == 1 else ", the first"
    words = f"{first.status or 'no answer'}: {one_line(first.message)}"
    return [f"{side} did not answer {count} rightly{more}: {first.where}: {words}"]


def _refused(load: Load) -> str:
    text, count = next(iter(load.messages.items()))
    return (
        f"at {load.rate:g}/s {load.side} did not answer {load.errors} of {load.requests} requests rightly, "
        f"{count} times: {one_line(text)}"
    )


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count} rows are"
