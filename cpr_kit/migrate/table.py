"""A comparison in lines: for a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cpr_kit.migrate.comparison import Comparison, Figures

_HEAD = ("", "before", "after", "ratio")
_LARGE = 100


@dataclass(frozen=True)
class Row:
    what: str
    value: Callable[[Figures], float | None]
    unit: str = ""
    beside: Callable[[Figures], str] = lambda _: ""


ROWS = (
    Row("image", lambda each: each.size_mb, "MB"),
    Row("added to the base", lambda each: each.added_mb, "MB"),
    Row("first build", lambda each: each.build_s, "s"),
    Row(
        "rebuild after an edited line",
        lambda each: each.rebuild_s,
        "s",
        lambda each: ", installs again" if each.reinstalls else ", installs nothing",
    ),
    Row("container start to first 200", lambda each: each.start_s, "s"),
    Row("memory, default workers", lambda each: each.memory_mb, "MB"),
    Row("requests/s", lambda each: each.rate),
)


def lines(comparison: Comparison) -> list[str]:
    """Columns in plain text, the answers' verdict, and the notes."""
    cells = [_HEAD, *_cells(comparison)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    rows = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [*rows, "", verdict(comparison), *comparison.notes]


def markdown(comparison: Comparison) -> str:
    rows = [f"| {' | '.join(row)} |" for row in _cells(comparison)]
    notes = [f"- {note}" for note in (verdict(comparison), *comparison.notes)]
    return "\n".join([f"| {' | '.join(_HEAD)} |", "|---|---|---|---|", *rows, "", *notes])


def verdict(comparison: Comparison) -> str:
    if not comparison.before.answer:
        return "answers were not compared"
    if comparison.differs is None:
        return "both answered the request alike"
    return f"the answers differ: {comparison.differs}"


def _cells(comparison: Comparison) -> list[tuple[str, ...]]:
    return [
        (row.what, _cell(row, comparison.before), _cell(row, comparison.after), _ratio(row, comparison))
        for row in ROWS
        if row.value(comparison.after) is not None
    ]


def _cell(row: Row, figures: Figures) -> str:
    value = row.value(figures)
    return "" if value is None else f"{shown(value)} {row.unit}".rstrip() + row.beside(figures)


def _ratio(row: Row, comparison: Comparison) -> str:
    before, after = row.value(comparison.before), row.value(comparison.after)
    return f"{after / before:.2g}" if before and after is not None else ""


def shown(number: float) -> str:
    """Three digits, and thousands in groups.

    >>> shown(1234.5), shown(3.14159)
    ('1,234', '3.14')
    """
    return f"{number:,.0f}" if abs(number) >= _LARGE else f"{number:.3g}"
