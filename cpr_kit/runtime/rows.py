"""Rows of several requests joined into one call of `predict`, and its answer split again.

What may be joined: arrays along axis 0, lists of rows, dictionaries of arrays, and whole requests,
`{"instances": [...], "parameters": ...}`. Two values are joined only when their keys are equal, and a key
holds everything that could make one row change another's answer: kind, parameters, shapes and types.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import orjson

_INSTANCES = "instances"
_PREDICTIONS = "predictions"
_MAX_LIST = 64
"""A longer list of rows goes alone: looking at each of its values would cost more than sharing a call saves."""

_INT64 = (-(1 << 63), (1 << 63) - 1)


class Unsplittable(Exception):
    """The answer does not have one entry for each row."""


def key(value: Any) -> Hashable | None:
    """What a value has in common with those that it may be joined with; None where it must go alone."""
    if _is_array(value):
        return _array_key(value) if value.ndim else None
    if isinstance(value, list):
        kind = _list_key(value)
        return None if kind is None else ("list", kind)
    if isinstance(value, dict):
        return _request_key(value) if _INSTANCES in value else _columns_key(value)
    return None


def count(value: Any) -> int:
    """The number of rows of a value that has a key."""
    if isinstance(value, dict):
        return len(value[_INSTANCES] if _INSTANCES in value else next(iter(value.values())))
    return len(value)


def size(value: Any) -> int:
    """The number of rows of any value, for whoever counts; 1 where it has none."""
    inner = value.get(_INSTANCES, value) if isinstance(value, dict) else value
    return len(inner) if isinstance(inner, list) or (_is_array(inner) and inner.ndim) else 1


def join(values: Sequence[Any]) -> Any:
    """One value with all rows, in order. All must have the same key.

    It shares nothing with the values: a `predict` that changes what it is given may fail, and is then asked again.
    """
    first = values[0]
    if isinstance(first, list):
        return [_copied(row) for value in values for row in value]
    if isinstance(first, dict):
        joined = type(first)((name, _copied(value)) for name, value in first.items() if name != _INSTANCES)
        for name in (_INSTANCES,) if _INSTANCES in first else first:
            joined[name] = join([value[name] for value in values])
        return joined
    import numpy as np

    return np.concatenate(values)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return value


def split(answer: Any, counts: Sequence[int]) -> list[Any]:
    """The answer for each of the values that were joined. Raises Unsplittable."""
    if isinstance(answer, Mapping):
        return _split_mapping(answer, counts)
    if not isinstance(answer, list) and not (_is_array(answer) and answer.ndim):
        raise Unsplittable(f"predict returned a {type(answer).__name__} for joined requests; return an array or a list")
    if len(answer) != sum(counts):
        raise Unsplittable(f"predict returned {len(answer)} results for {sum(counts)} rows")
    parts, begin = [], 0
    for number in counts:
        parts.append(answer[begin : begin + number])
        begin += number
    return parts


def _split_mapping(answer: Mapping[str, Any], counts: Sequence[int]) -> list[Any]:
    """`{"predictions": [...]}`, whose other keys go to everyone, or a dictionary of arrays."""
    names = (_PREDICTIONS,) if _PREDICTIONS in answer else tuple(answer)
    columns = {name: split(answer[name], counts) for name in names}
    return [
        {**answer, **{name: column[position] for name, column in columns.items()}} for position in range(len(counts))
    ]


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray


def _array_key(value: Any) -> Hashable | None:
    if not value.dtype.hasobject:
        return ("array", value.dtype.str, value.shape[1:])
    kind = _list_key(value.tolist())
    return None if kind is None else ("objects", value.shape[1:], kind)


def _columns_key(value: dict[str, Any]) -> Hashable | None:
    if not value or not all(_is_array(column) for column in value.values()):
        return None
    keys = tuple((name, key(column)) for name, column in value.items())
    lengths = {len(column) if column.ndim else None for column in value.values()}
    return ("columns", keys) if len(lengths) == 1 and all(kind for _, kind in keys) else None


def _request_key(value: dict[str, Any]) -> Hashable | None:
    kind = key(value[_INSTANCES])
    if kind is None:
        return None
    others = {name: other for name, other in value.items() if name != _INSTANCES}
    try:
        return ("request", type(value), kind, orjson.dumps(others, option=orjson.OPT_SORT_KEYS))
    except TypeError:
        return None


def _list_key(rows: list[Any]) -> Hashable | None:
    """The one type that all rows have. A list of 1 and 2.5 would turn 1 into 1.0, so those are not joined."""
    if not 0 < len(rows) <= _MAX_LIST:
        return None
    first = _row_key(rows[0])
    return first if first is not None and all(_row_key(row) == first for row in rows) else None


def _row_key(row: Any) -> Hashable | None:
    if isinstance(row, list):
        kinds = tuple(map(_row_key, row))
        return None if None in kinds else kinds
    if isinstance(row, dict):
        named = tuple((name, _row_key(value)) for name, value in row.items())
        return None if any(kind is None for _, kind in named) else ("object", *named)
    if _is_array(row):
        return None if row.dtype.hasobject else ("array", row.dtype.str, row.shape)
    if isinstance(row, int) and not _INT64[0] <= row <= _INT64[1]:
        return None  # one of these turns a whole array into floats or objects
    return type(row).__qualname__
