"""A comparison as a picture: SVG, which takes no library to write and shows in any browser."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from cpr_kit.compare.comparison import Comparison
from cpr_kit.compare.pace import Load
from cpr_kit.errors import UsageError

_WIDTH, _MARGIN, _LEFT = 760, 24, 130
_BAR, _GAP = 14, 6
_PLOT = 180
_A, _B, _ROWS, _LIMIT = "#4269d0", "#efb118", "#6c8ebf", "#c0392b"
_EDGES = (1, 2, 5)
_BINS = 15


def write(comparison: Comparison, path: Path) -> None:
    """Raises UsageError for another suffix than .svg, and for a place that cannot be written to."""
    check(path)
    try:
        path.write_text(svg(comparison), "utf-8")
    except OSError as error:
        raise UsageError(f"the picture {path} cannot be written: {error.strerror}") from error


def check(path: Path) -> None:
    """Before anything is measured. Raises UsageError."""
    if path.suffix.lower() != ".svg":
        raise UsageError(f"the picture is drawn as SVG; write --picture {path.with_suffix('.svg').name}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"the folder of the picture {path} is not there; make it first")


def svg(comparison: Comparison) -> str:
    head = "agree" if comparison.passed else "do not agree"
    parts = [
        _text(_MARGIN, 34, f"A and B {head}", size=18, weight="bold"),
        _square(_MARGIN, 48, _A),
        _text(_MARGIN + 18, 59, f"A: {comparison.a.name}"),
        _square(_MARGIN, 66, _B),
        _text(_MARGIN + 18, 77, f"B: {comparison.b.name}"),
    ]
    top = 110
    parts += _histogram(comparison, top)
    top += _PLOT + 74
    bars = list(_bars(comparison))
    parts.append(_text(_MARGIN, top, "Latency in ms", weight="bold"))
    parts += _latencies(bars, top + 16)
    height = top + 16 + sum(2 * _BAR + _GAP + 4 for _ in bars) + _MARGIN
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    begin = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f"<title>{escape(f'A: {comparison.a.name}, B: {comparison.b.name}')}</title>",
        _rect(0, 0, _WIDTH, height, "white"),
    ]
    return "\n".join([*begin, *parts, "</svg>\n"])


def bins(differences: Sequence[float]) -> list[tuple[float, list[float]]]:
    """Differences by the next of 1, 2, 5, 10, ... that they have not reached; 0 has a bin of its own.

    The first of the others holds all that is smaller still: what lies five decades below the greatest is noise.

    >>> bins([0.0, 0.06, 0.013, 0.01])
    [(0.0, [0.0]), (0.02, [0.013, 0.01]), (0.05, []), (0.1, [0.06])]
    """
    zeros = [each for each in differences if each == 0]
    others = [(_place(each), each) for each in differences if each]
    found = [(0.0, zeros)] * bool(zeros)
    if not others:
        return found
    last = max(place for place, _ in others)
    first = max(min(place for place, _ in others), last - _BINS + 1)
    return [
        *found,
        *(
            (_edge(bin_ + 1), [each for place, each in others if max(place, first) == bin_])
            for bin_ in range(first, last + 1)
        ),
    ]


def _place(difference: float) -> int:
    """The number of the edge at or below it."""
    place = len(_EDGES) * math.floor(math.log10(difference))  # or one beside it, by a rounding of the logarithm
    below = [each for each in range(place - 1, place + len(_EDGES) + 1) if _edge(each) <= difference]
    return below[-1] if below else place


def _edge(place: int) -> float:
    decade, index = divmod(place, len(_EDGES))
    return float(f"{_EDGES[index]}e{decade}")


def _histogram(comparison: Comparison, top: int) -> Iterator[str]:
    relative, allowed = comparison.limits.relative, comparison.limits.tolerance
    fine = [each for each in comparison.figures.differences if not each.fault]
    found = bins([each.relative if relative else each.absolute for each in fine])
    what = "relative difference" if relative else "difference"
    yield _text(_MARGIN, top, f"Rows by their largest {what}; what is above {allowed:g} is red", weight="bold")
    if not found:
        yield _text(_MARGIN, top + 30, "no row was compared")
        return
    step = min((_WIDTH - 2 * _MARGIN) / len(found), 80)
    most = max(len(each) for _, each in found)
    bottom = top + 30 + _PLOT - 20
    for number, (edge, differences) in enumerate(found):
        left, scale = _MARGIN + number * step, (_PLOT - 40) / most
        beyond = sum(each > allowed for each in differences)
        height = scale * len(differences)
        yield _rect(left + 2, bottom - height, step - 4, scale * (len(differences) - beyond), _ROWS)
        yield _rect(left + 2, bottom - scale * beyond, step - 4, scale * beyond, _LIMIT)
        if differences:
            yield _text(left + 2, bottom - height - 4, f"{len(differences):,}", size=11)
        yield _text(left + 2, bottom + 15, f"< {edge:g}" if edge else "0", size=11)


def _bars(comparison: Comparison) -> Iterator[tuple[str, float | None, float | None]]:
    yield "first request", comparison.a.first_ms, comparison.b.first_ms
    pairs: Iterator[tuple[Load, Load]] = zip(comparison.loads[::2], comparison.loads[1::2], strict=True)
    for one, other in pairs:
        for name in ("p50", "p90", "p99"):
            yield f"{one.rate:g}/s {name}", getattr(one, f"{name}_ms"), getattr(other, f"{name}_ms")


def _latencies(bars: Sequence[tuple[str, float | None, float | None]], top: int) -> Iterator[str]:
    longest = max((value for _, *values in bars for value in values if value is not None), default=0.0) or 1.0
    room = _WIDTH - _LEFT - _MARGIN - 80
    for place, (name, *values) in enumerate(bars):
        begin = top + place * (2 * _BAR + _GAP + 4)
        yield _text(_MARGIN, begin + _BAR + 4, name)
        for line, (value, colour) in enumerate(zip(values, (_A, _B), strict=True)):
            y = begin + line * (_BAR + 1)
            length = room * (value or 0.0) / longest
            yield _rect(_LEFT, y, length, _BAR, colour)
            said = "none" if value is None else f"{value:.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004
            yield _text(_LEFT + length + 6, y + _BAR - 3, said, size=11)


def _text(x: float, y: float, words: str, *, size: int = 13, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}">{escape(words)}</text>'


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _square(x: float, y: float, colour: str) -> str:
    return _rect(x, y, 12, 12, colour)
