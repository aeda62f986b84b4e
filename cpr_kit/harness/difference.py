"""Where two JSON values differ, numbers within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

TOLERANCE = 1e-6


def difference(expected: Any, got: Any, where: str = "$") -> str | None:
    """The first difference, by its path, or None.

    >>> difference({"predictions": [1, 2.0]}, {"predictions": [1.0, 2.5]})
    '$.predictions[1]: expected 2.0, got 2.5'
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        return _objects(expected, got, where)
    if isinstance(expected, list) and isinstance(got, list):
        return _lists(expected, got, where)
    same = (
        math.isclose(expected, got, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        if _numbers(expected, got)
        else (type(expected) is type(got) and expected == got)
    )
    return None if same else f"{where}: expected {expected!r}, got {got!r}"


def _objects(expected: dict[str, Any], got: dict[str, Any], where: str) -> str | None:
    if expected.keys() != got.keys():
        return f"{where}: expected the keys {sorted(expected)}, got {sorted(got)}"
    return _first(difference(expected[key], got[key], f"{where}.{key}") for key in expected)


def _lists(expected: list[Any], got: list[Any], where: str) -> str | None:
    if len(expected) != len(got):
        return f"{where}: expected {len(expected)} items, got {len(got)}"
    return _first(
        difference(one, other, f"{where}[{index}]")
        for index, (one, other) in enumerate(zip(expected, got, strict=True))
    )


def _first(found: Iterable[str | None]) -> str | None:
    return next((item for item in found if item), None)


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
