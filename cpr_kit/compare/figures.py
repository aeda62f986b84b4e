"""How far the answers of two sides are apart: each number, each class, each row. Pure.

A row is one prediction of a reply's "predictions"; a reply of another form is one row. What counts as a class is read
from all rows of both sides together, since one row does not tell a probability from a price:

- texts and booleans are labels, and so are numbers that are whole on both sides in every row;
- a list of two or more numbers is the scores of as many classes, the greatest of which is meant;
- an object of two or more numbers that add up to 1 is the same by name;
- a number that is never outside 0 to 1 is a probability, which means yes from 0.5 on.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Kind = tuple[str, ...]
_ITEM = "[]"
"""What a kind has for any position in a list; no key, since those begin with a dot."""
ADDED = {"deployedModelId", "model", "modelDisplayName", "modelVersionId"}
"""What Vertex AI adds to a prediction (PredictResponse)."""
_HALF = 0.5
_FEW = 2
_KEYS = 4


@dataclass(frozen=True)
class Pair:
    """Both sides of one place in a row. `kind` is the place without positions in lists: what rows have in common."""

    path: str
    kind: Kind
    a: Any
    b: Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """Two predictions of one instance. `fault` says why they cannot be compared number by number."""

    where: str
    request: str
    instance: int | None = None
    numbers: tuple[Pair, ...] = ()
    vectors: tuple[Pair, ...] = ()
    labels: tuple[Pair, ...] = ()
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What is said of a row: both values where it has another class, else where it is furthest apart."""

    where: str
    request: str
    instance: int | None
    path: str = ""
    a: Any = None
    b: Any = None
    absolute: float = 0.0
    relative: float = 0.0
    flipped: bool = False
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """`rows` counts those that could be compared; `unlike` those that could not, whose forms differ.

    A relative difference is a share of the larger of two values. Both maxima and means are over `numbers` pairs.
    """

    rows: int = 0
    unlike: int = 0
    numbers: int = 0
    flips: int = 0
    classes: int = 0
    """Rows that name a class."""
    max_absolute: float = 0.0
    mean_absolute: float = 0.0
    max_relative: float = 0.0
    mean_relative: float = 0.0
    differences: tuple[Difference, ...] = field(default=(), repr=False)
    """Every row, the worst first: unlike ones, then those of another class, then by how far they are apart."""

    @property
    def flip_share(self) -> float:
        return self.flips / self.classes if self.classes else 0.0


def predictions(reply: Any) -> tuple[str, list[Any]] | None:
    """Where a reply has its rows, and these: "predictions", TensorFlow Serving's "outputs", or all of a bare list.

    A bare list of numbers may as well be the scores of one row, and is taken for that.
    """
    if isinstance(reply, list):
        return ("$", reply) if reply and not any(map(_is_number, reply)) else None
    for key in ("predictions", "outputs"):
        if isinstance(reply, Mapping) and isinstance(found := reply.get(key), list):
            return f"$.{key}", found
    return None


def row(a: Any, b: Any, *, where: str, request: str, instance: int | None = None, at: str = "$") -> Row:
    """One prediction of each side, taken apart."""
    parts = _Parts()
    fault = parts.take(a, b, at, ("$",))
    return Row(
        where=where,
        request=request,
        instance=instance,
        numbers=tuple(parts.numbers),
        vectors=tuple(parts.vectors),
        labels=tuple(parts.labels),
        fault=fault,
    )


def bare(reply: Any) -> Any:
    """A reply that is no list of predictions, without what Vertex AI has added."""
    return {key: value for key, value in reply.items() if key not in ADDED} if isinstance(reply, Mapping) else reply


def figures(rows: Sequence[Row], *, relative: bool = False, classes: bool = True) -> Figures:
    """`relative` ranks rows by their relative difference. Without `classes`, other texts make rows unlike."""
    if not classes:
        rows = [_without_classes(each) for each in rows]
    fine = [each for each in rows if not each.fault]
    judge = _Classes.of(fine if classes else ())
    found = [_difference(each, judge, relative=relative) for each in rows]
    pairs = [pair for each in fine for pair in each.numbers]
    absolute = [_apart(pair.a, pair.b) for pair in pairs]
    shares = [_relative(pair.a, pair.b) for pair in pairs]
    return Figures(
        rows=len(fine),
        unlike=len(rows) - len(fine),
        numbers=len(pairs),
        flips=sum(each.flipped for each in found),
        classes=sum(judge.in_row(each) for each in fine),
        max_absolute=max(absolute, default=0.0),
        mean_absolute=_mean(absolute),
        max_relative=max(shares, default=0.0),
        mean_relative=_mean(shares),
        differences=tuple(
            sorted(found, key=lambda each: (not each.fault, not each.flipped, -_rank(each, relative=relative)))
        ),
    )


def _without_classes(each: Row) -> Row:
    other = next((pair for pair in each.labels if pair.a != pair.b), None)
    fault = f"{other.path}: A has {shown(other.a)}, B has {shown(other.b)}" if other else ""
    return replace(each, labels=(), fault=each.fault or fault)


def _rank(each: Difference, *, relative: bool) -> float:
    return each.relative if relative else each.absolute


def _mean(values: Sequence[float]) -> float:
    """fsum, so that it does not depend on the rows' order; and never above the maximum by a rounding."""
    return min(math.fsum(each / len(values) for each in values), max(values)) if values else 0.0


def _apart(a: float, b: float) -> float:
    """Two numbers of opposite sign may be further apart than a number can be."""
    return min(abs(a - b), sys.float_info.max)


def _relative(a: float, b: float) -> float:
    larger = max(abs(a), abs(b))
    return abs(a / larger - b / larger) if larger else 0.0


class _Parts:
    """A row's numbers, vectors and labels by their places."""

    def __init__(self) -> None:
        self.numbers: list[Pair] = []
        self.vectors: list[Pair] = []
        self.labels: list[Pair] = []

    def take(self, a: Any, b: Any, path: str, kind: Kind) -> str:
        """The first fault, or nothing."""
        if isinstance(a, dict) and isinstance(b, dict):
            return self._objects(a, b, path, kind)
        if isinstance(a, list) and isinstance(b, list):
            return self._lists(a, b, path, kind)
        if _is_number(a) and _is_number(b):
            if math.isfinite(a) and math.isfinite(b):
                self.numbers.append(Pair(path, kind, a, b))
            elif not (a == b or (math.isnan(a) and math.isnan(b))):
                return f"{path}: A has {shown(a)}, B has {shown(b)}"
            return ""
        if type(a) is not type(b):
            return f"{path}: A has {_form(a)}, B has {_form(b)}"
        if a is not None:
            self.labels.append(Pair(path, kind, a, b))
        return ""

    def _objects(self, a: dict[str, Any], b: dict[str, Any], path: str, kind: Kind) -> str:
        if a.keys() != b.keys():
            return f"{path}: {_alone(a, b)}"
        if len(a) >= _FEW and all(_finite(each.values()) for each in (a, b)):
            self.vectors.append(Pair(path, kind, a, {key: b[key] for key in a}))
        faults = [self.take(a[key], b[key], f"{path}.{key}", (*kind, f".{key}")) for key in a]
        return next(filter(None, faults), "")

    def _lists(self, a: list[Any], b: list[Any], path: str, kind: Kind) -> str:
        if len(a) != len(b):
            return f"{path}: {counted(a, b)}"
        if len(a) >= _FEW and _finite(a) and _finite(b):
            self.vectors.append(Pair(path, kind, a, b))
        faults = [
            self.take(one, other, f"{path}[{index}]", (*kind, _ITEM))
            for index, (one, other) in enumerate(zip(a, b, strict=True))
        ]
        return next(filter(None, faults), "")


class _Classes:
    """Which places of all rows are classes, and whether a row has another one on the other side."""

    def __init__(self, whole: set[Kind], shares: set[Kind], vectors: set[Kind]) -> None:
        self._whole = whole
        self._shares = shares
        self._vectors = vectors

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Classes:
        values: dict[Kind, list[float]] = defaultdict(list)
        sums: dict[Kind, bool] = {}
        lists: set[Kind] = set()
        for pair in _all(rows, "numbers"):
            values[pair.kind] += [pair.a, pair.b]
        for pair in _all(rows, "vectors"):
            if isinstance(pair.a, list):
                lists.add(pair.kind)
            else:
                one = all(_is_distribution(each) for each in (pair.a, pair.b))
                sums[pair.kind] = sums.get(pair.kind, True) and one
        named = {kind for kind, holds in sums.items() if holds}
        whole = {kind for kind, found in values.items() if all(float(each).is_integer() for each in found)}
        shares = {kind for kind, found in values.items() if all(0 <= each <= 1 for each in found)}
        scores = {kind for kind in values if kind[:-1] in (lists if kind[-1] == _ITEM else named)}
        vectors = lists - {kind[:-1] for kind in whole} | named
        return cls(whole, shares - whole - scores, vectors)

    def in_row(self, each: Row) -> bool:
        return bool(each.labels) or next(self._judged(each), None) is not None

    def flipped(self, each: Row) -> Pair | None:
        """The first place with another class."""
        for pair in each.labels:
            if pair.a != pair.b:
                return pair
        return next((pair for pair, other in self._judged(each) if other), None)

    def _judged(self, each: Row) -> Iterator[tuple[Pair, bool]]:
        for pair in each.numbers:
            if pair.kind in self._whole:
                yield pair, pair.a != pair.b
            elif pair.kind in self._shares:
                yield pair, (pair.a >= _HALF) != (pair.b >= _HALF)
        for pair in each.vectors:
            if pair.kind in self._vectors:
                yield pair, not (_greatest(pair.a) & _greatest(pair.b))


def _difference(each: Row, classes: _Classes, *, relative: bool) -> Difference:
    if each.fault:
        return Difference(where=each.where, request=each.request, instance=each.instance, fault=each.fault)
    apart = _relative if relative else _apart
    worst = max(each.numbers, key=lambda pair: apart(pair.a, pair.b), default=None)
    flipped = classes.flipped(each)
    told = flipped or worst
    return Difference(
        where=each.where,
        request=each.request,
        instance=each.instance,
        path=told.path if told else "",
        a=told.a if told else None,
        b=told.b if told else None,
        absolute=_apart(worst.a, worst.b) if worst else 0.0,
        relative=_relative(worst.a, worst.b) if worst else 0.0,
        flipped=flipped is not None,
    )


def _all(rows: Iterable[Row], what: str) -> Iterator[Pair]:
    return (pair for each in rows for pair in getattr(each, what))


def counted(a: Sequence[Any], b: Sequence[Any]) -> str:
    """Of two lists that are not alike."""
    return f"A has {len(a)} item{'s' * (len(a) != 1)}, B has {len(b)}"


def _alone(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Keys that the other side has not."""
    keys = [("A", key) for key in sorted(a.keys() - b.keys())] + [("B", key) for key in sorted(b.keys() - a.keys())]
    words = ", ".join(f'{side} alone has "{key}"' for side, key in keys[:_KEYS])
    return words if len(keys) <= _KEYS else f"{words}, and {len(keys) - _KEYS} more"


def _greatest(scores: Any) -> set[Any]:
    """All that share the greatest score: a tie that is broken is no other class."""
    named = scores if isinstance(scores, dict) else dict(enumerate(scores))
    top = max(named.values())
    return {key for key, value in named.items() if value == top}


def _is_distribution(scores: Mapping[str, float]) -> bool:
    return all(0 <= each <= 1 for each in scores.values()) and abs(sum(scores.values()) - 1) < 1e-2  # noqa: PLR2004


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(values: Iterable[Any]) -> bool:
    return all(_is_number(value) and math.isfinite(value) for value in values)


def shown(value: Any) -> str:
    """A value as JSON has it; infinity and NaN as most servers write them."""
    return json.dumps(value, ensure_ascii=False)


def _form(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
