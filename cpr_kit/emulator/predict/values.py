"""google.protobuf.Value to plain Python and back, by hand: json_format takes a hundred times as long.

The same rules as json_format's, which the tests hold them to: every number is a double.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from google.protobuf import struct_pb2

MAX_DEPTH = 100
"""json_format's own limit."""

# A Value that holds a number, as an element of a list, is always these eleven bytes: field 1 of nine bytes,
# and in it field 2, a little-endian double. So a long list of numbers is put together byte by byte.
_HEAD = b"\x0a\x09\x11"
_DOUBLE = 8
_ELEMENT = len(_HEAD) + _DOUBLE
_LONG = 16

_NUMBERS = frozenset((int, float))
_UNCHANGED = frozenset((float, str, bool, type(None)))


class NotAValue(ValueError):
    """What Value can hold and JSON cannot (NaN, an infinity), or deeper lists than protobuf reads."""


def as_floats(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Parsed JSON as it comes out of a Value: ints are floats (2**53 + 1 is 9007199254740992.0), bools stay."""
    kind = type(value)
    if kind is int:
        return float(value)
    if kind is list:
        below = _below(depth)
        kinds = frozenset(map(type, value))
        if kinds <= _UNCHANGED:
            return value
        if kinds <= _NUMBERS:
            return list(map(float, value))
        return [as_floats(item, below) for item in value]
    if kind is dict:
        below = _below(depth)
        return {key: as_floats(item, below) for key, item in value.items()}
    return value


def to_json(value: struct_pb2.Value, depth: int = MAX_DEPTH) -> Any:
    """Raises NotAValue for a number that JSON does not have."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        if not math.isfinite(number):
            raise NotAValue(f"{number} is no number of JSON")
        return number
    if kind == "string_value":
        return value.string_value
    if kind == "list_value":
        return list_to_json(value.list_value, _below(depth))
    if kind == "struct_value":
        below = _below(depth)
        return {key: to_json(item, below) for key, item in value.struct_value.fields.items()}
    return value.bool_value if kind == "bool_value" else None


def list_to_json(values: struct_pb2.ListValue, depth: int = MAX_DEPTH) -> list[Any]:
    items = values.values
    if len(items) >= _LONG and items[0].WhichOneof("kind") == "number_value":
        numbers = _numbers(values.SerializeToString(), len(items))
        if numbers is not None:
            return numbers
    return [to_json(item, depth) for item in items]


def from_json(value: Any, depth: int = MAX_DEPTH) -> struct_pb2.Value:
    message = struct_pb2.Value()
    fill(message, value, depth)
    return message


def list_from_json(items: list[Any], depth: int = MAX_DEPTH) -> struct_pb2.ListValue:
    message = struct_pb2.ListValue()
    _fill_list(message, items, depth)
    return message


def fill(message: struct_pb2.Value, value: Any, depth: int = MAX_DEPTH) -> None:
    """Set an empty Value to what orjson read."""
    kind = type(value)
    if kind is float or kind is int:
        message.number_value = value
    elif kind is str:
        message.string_value = value
    elif kind is bool:
        message.bool_value = value
    elif kind is list:
        message.list_value.SetInParent()
        _fill_list(message.list_value, value, _below(depth))
    elif kind is dict:
        message.struct_value.SetInParent()
        fields = message.struct_value.fields
        below = _below(depth)
        for key, item in value.items():
            fill(fields[key], item, below)
    else:
        message.null_value = struct_pb2.NULL_VALUE


def _fill_list(message: struct_pb2.ListValue, items: list[Any], depth: int) -> None:
    if len(items) >= _LONG and frozenset(map(type, items)) <= _NUMBERS:
        elements = bytearray((_HEAD + bytes(_DOUBLE)) * len(items))
        doubles = struct.pack(f"<{len(items)}d", *items)
        for place in range(_DOUBLE):
            elements[len(_HEAD) + place :: _ELEMENT] = doubles[place::_DOUBLE]
        message.MergeFromString(bytes(elements))
        return
    add = message.values.add
    for item in items:
        fill(add(), item, depth)


def _numbers(data: bytes, count: int) -> list[float] | None:
    """The numbers of a serialised ListValue; None where it holds anything else."""
    if len(data) != count * _ELEMENT:
        return None
    if any(data[place::_ELEMENT] != _HEAD[place : place + 1] * count for place in range(len(_HEAD))):
        return None
    doubles = bytearray(count * _DOUBLE)
    for place in range(_DOUBLE):
        doubles[place::_DOUBLE] = data[len(_HEAD) + place :: _ELEMENT]
    numbers = struct.unpack(f"<{count}d", doubles)
    if not all(map(math.isfinite, numbers)):
        raise NotAValue("NaN or an infinity is no number of JSON")
    return list(numbers)


def _below(depth: int) -> int:
    if depth == 0:
        raise NotAValue(f"lists and objects are nested deeper than {MAX_DEPTH} levels")
    return depth - 1
