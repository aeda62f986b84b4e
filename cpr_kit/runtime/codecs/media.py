"""The headers that name a format: Content-Type, Accept and Accept-Encoding (RFC 9110, 8.3 and 12.5)."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

_PLAIN = re.compile(r"[\w!#$&^.+*/;=, -]{1,100}", re.ASCII)
_ANY = "*/*"


class Media(NamedTuple):
    """A Content-Type: `type` in lower case, the parameters that a codec asks for or ""."""

    type: str
    charset: str = ""
    header: str = ""


def media_type(header: str | None) -> str:
    """`Application/JSON; charset=utf-8` -> `application/json`."""
    return (header or "").partition(";")[0].strip().lower()


@functools.lru_cache(maxsize=256)
def parse(header: str) -> Media:
    kind, *rest = header.split(";")
    parameters = {}
    for parameter in rest:
        name, _, value = parameter.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"').lower()
    return Media(kind.strip().lower(), parameters.get("charset", ""), parameters.get("header", ""))


def shown(header: str) -> str:
    """A header's value for a message, unless it is something that one would rather not print."""
    return f'"{header}"' if _PLAIN.fullmatch(header) else "a value that is none"


def accepts(header: str | None, offered: str) -> bool:
    """Whether an Accept header takes `offered`: the most specific range decides."""
    if not header or not header.strip():
        return True
    return _rank(qualities(header), offered)[0] > 0


def best(header: str, offers: tuple[str, ...]) -> str | None:
    """The offer of the highest quality; among equals the one that is named, then the one that stands first."""
    ranges = qualities(header)
    ranked = [(_rank(ranges, offer), -place, offer) for place, offer in enumerate(offers)]
    rank, _, offer = max(ranked)
    return offer if rank[0] > 0 else None


def qualities(header: str) -> dict[str, float]:
    """`text/csv;q=0.5, */*` -> {"text/csv": 0.5, "*/*": 1.0}. A quality that is no number counts as 0."""
    found = {}
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        found[name] = _quality(parameters)
    return found


def _rank(ranges: dict[str, float], offered: str) -> tuple[float, int]:
    """Quality, and how specific the range that gives it is."""
    for specific, name in ((2, offered), (1, f"{offered.partition('/')[0]}/*"), (0, _ANY)):
        if name in ranges:
            return ranges[name], specific
    return 0.0, 0


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0 <= quality <= 1 else 0.0  # also NaN
    return 1.0
