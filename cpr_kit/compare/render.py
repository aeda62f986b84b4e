"""A comparison in lines for a terminal, or as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cpr_kit.compare.comparison import About, Comparison
from cpr_kit.compare.figures import Difference, shown
from cpr_kit.compare.verdict import largest, mean, one_line, percent

Table = Sequence[Sequence[str]]
"""Its first row is the head."""

_VALUE = 40
_FAILURES = 3


def text(comparison: Comparison) -> str:
    """The verdict comes last, where a terminal ends."""
    parts = [_sides(comparison)]
    parts += ["\n".join(columns(table)) for table in (_differences(comparison), _times(comparison))]
    if comparison.worst:
        parts.append("\n".join(["Worst rows", *(f"  {line}" for line in columns(_worst(comparison)))]))
    if errors := _errors(comparison):
        parts.append("\n".join(["Errors", *(f"  {line}" for line in errors)]))
    parts += ["\n".join(comparison.notes)] * bool(comparison.notes)
    parts.append("\n".join(verdict(comparison)))
    return _printable("\n\n".join(parts))


def markdown(comparison: Comparison) -> str:
    parts = [
        f"**{verdict(comparison)[0]}**",
        "\n".join(f"- {reason}" for reason in comparison.verdict.reasons),
        _sides(comparison).replace("\n", "  \n"),
        _piped(_differences(comparison)),
        _piped(_times(comparison)),
    ]
    if comparison.worst:
        parts.append(f"Worst rows:\n\n{_piped(_worst(comparison))}")
    if errors := _errors(comparison):
        parts.append("Errors:\n\n" + "\n".join(f"- {line}" for line in errors))
    parts += ["\n".join(f"- {one_line(note)}" for note in comparison.notes)] * bool(comparison.notes)
    return _printable("\n\n".join(parts))


def _printable(words: str) -> str:
    """Keys and messages are a server's, and may be written for the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in words)


def verdict(comparison: Comparison) -> list[str]:
    head = "A and B agree within what is allowed" if comparison.passed else "A and B do not agree"
    return [f"{head}:", *(f"  {reason}" for reason in comparison.verdict.reasons)]


def columns(table: Table) -> list[str]:
    """Plain text; columns stand two blanks apart."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _piped(table: Table) -> str:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])


def _sides(comparison: Comparison) -> str:
    return "\n".join(_side(letter, about) for letter, about in (("A", comparison.a), ("B", comparison.b)))


def _side(letter: str, about: About) -> str:
    started = f", started in {about.start_s:.1f} s" if about.start_s is not None else ""
    return f"{letter}: {about.name} ({about.kind}{started})"


def _differences(comparison: Comparison) -> Table:
    figures, limits = comparison.figures, comparison.limits
    kind = "relative difference" if limits.relative else "difference"
    counted = f"{comparison.requests:,} requests, {figures.rows:,} rows, {figures.numbers:,} numbers"
    table: list[Sequence[str]] = [(counted, "found", "allowed")]
    if figures.numbers:
        table += [
            (f"largest {kind}", f"{largest(figures, limits):.3g}", f"{limits.tolerance:g}"),
            (f"mean {kind}", f"{mean(figures, limits):.3g}", f"{limits.mean_tolerance:g}"),
        ]
        other = ("difference", figures.max_absolute) if limits.relative else ("relative", figures.max_relative)
        table.append((f"largest {other[0]}", f"{other[1]:.3g}", ""))
    if limits.flips is not None and figures.classes:
        found = f"{figures.flips} of {figures.classes} ({percent(figures.flip_share)})"
        table.append(("rows of another class", found, percent(limits.flips)))
    table.append(("rows of another form", str(figures.unlike), "0"))
    errors = [sum(each.side == side for each in comparison.failures) for side in ("A", "B")]
    return [*table, ("errors of A, of B", f"{errors[0]}, {errors[1]}", "0")]


def _times(comparison: Comparison) -> Table:
    a, b = comparison.a, comparison.b
    table: list[Sequence[str]] = [("", "A", "B", "B/A")]
    if a.start_s is not None and b.start_s is not None:
        table.append(("start", f"{a.start_s:.1f} s", f"{b.start_s:.1f} s", _ratio(a.start_s, b.start_s)))
    table.append(("first request", _ms(a.first_ms), _ms(b.first_ms), _ratio(a.first_ms, b.first_ms)))
    for one, other in zip(comparison.loads[::2], comparison.loads[1::2], strict=True):
        rate = f"{one.rate:g}/s"
        for name in ("p50", "p90", "p99", "max"):
            mine, theirs = (getattr(load, f"{name}_ms") for load in (one, other))
            table.append((f"{rate} {name}", _ms(mine), _ms(theirs), _ratio(mine, theirs)))
        table.append((f"{rate} answered", f"{one.achieved:.3g}/s", f"{other.achieved:.3g}/s", ""))
        table.append((f"{rate} errors", *(f"{load.errors} of {load.requests}" for load in (one, other)), ""))
        if one.late or other.late:
            late = (f"{load.late}, up to {_ms(load.late_max_ms)}" for load in (one, other))
            table.append((f"{rate} sent late", *late, ""))
    return table


def _worst(comparison: Comparison) -> Table:
    numbers = any(not each.fault for each in comparison.worst)
    head = ("where", "difference" if numbers else "", "A", "B", "")
    relative = comparison.limits.relative
    return [head, *(_row(each, relative=relative) for each in comparison.worst)]


def _row(each: Difference, *, relative: bool) -> tuple[str, ...]:
    if each.fault:
        return each.where, "", "", "", one_line(each.fault)
    far = f"{each.relative if relative else each.absolute:.3g}"
    said = f"{each.path}, another class" if each.flipped else each.path
    return each.where, far, value(each.a), value(each.b), one_line(said)


def value(one: Any) -> str:
    """Scores as the greatest of them, with its place or name; a text that is cut where it is long.

    >>> value([0.1, 0.7, 0.2]), value({"cat": 0.25, "dog": 0.75}), value("cat"), value(0.123456789)
    ('[1] 0.7', 'dog 0.75', '"cat"', '0.123457')
    """
    if isinstance(one, dict):
        name = max(one, key=lambda key: one[key])
        return f"{one_line(name)} {one[name]:.6g}"
    if isinstance(one, list):
        index = max(range(len(one)), key=lambda place: one[place])
        return f"[{index}] {one[index]:.6g}"
    said = f"{one:.6g}" if isinstance(one, float) else shown(one)
    return said if len(said) <= _VALUE else f"{said[:_VALUE]}..."


def _errors(comparison: Comparison) -> list[str]:
    """The first few of each side, and of each rate the most frequent."""
    lines = []
    for side in ("A", "B"):
        mine = [each for each in comparison.failures if each.side == side]
        lines += [
            f"{side}, {each.where}: {each.status or 'no answer'}: {one_line(each.message)}" for each in mine[:_FAILURES]
        ]
        lines += [f"{side}: and {len(mine) - _FAILURES} more"] * (len(mine) > _FAILURES)
    for load in comparison.loads:
        most = list(load.messages.items())[:_FAILURES]
        lines += [f"{load.side} at {load.rate:g}/s, {count} times: {one_line(words)}" for words, count in most]
    return lines


def _ms(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"  # noqa: PLR2004


def _ratio(a: float | None, b: float | None) -> str:
    return f"{b / a:.2g}" if a and b is not None else ""
