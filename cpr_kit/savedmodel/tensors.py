"""JSON values as TensorProto messages: tensor.proto's numbers in little-endian bytes, its strings as they are."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np

from cpr_kit.savedmodel import messages
from cpr_kit.savedmodel.signatures import DTYPES, FLOATS, Tensor

_NUMBERS = {name: number for number, name in DTYPES.items()}
_LEAST_EVEN = 0x7FFF


def encode(tensor: Tensor, value: Any) -> Any:
    """A TensorProto of a value that `body.faults` found nothing wrong with."""
    message = messages.new("TensorProto")
    message.dtype = _NUMBERS[tensor.dtype]
    for size in _shape(value):
        message.tensor_shape.dim.add(size=size)
    if tensor.dtype == "string":
        message.string_val.extend(_bytes(item) for item in _leaves(value))
    else:
        message.tensor_content = _content(tensor.dtype, value)
    # A scalar's shape is there and empty, which differs from none.
    message.tensor_shape.SetInParent()
    return message


def _shape(value: Any) -> Iterator[int]:
    while isinstance(value, list):
        yield len(value)
        value = value[0] if value else None


def _leaves(value: Any) -> Iterator[Any]:
    if not isinstance(value, list):
        yield value
        return
    for item in value:
        yield from _leaves(item)


def _bytes(item: Any) -> bytes:
    return base64.b64decode(item["b64"]) if isinstance(item, dict) else str(item).encode()


def _content(dtype: str, value: Any) -> bytes:
    if dtype in FLOATS:
        with np.errstate(over="ignore"):  # what is too large for the type is its infinity, as the server reads it
            array = np.array(value, dtype="float32" if dtype == "bfloat16" else dtype)
        content = _bfloat16(array) if dtype == "bfloat16" else array
    else:
        # By Python's integers: a float64 would lose digits of an int64.
        content = np.array([int(item) for item in _leaves(value)], dtype=dtype)
    return content.astype(content.dtype.newbyteorder("<")).tobytes()


def _bfloat16(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The upper half of a float32, rounded to the nearest, a tie to the even one."""
    bits = array.reshape(-1).view(np.uint32)
    rounded = (bits + _LEAST_EVEN + ((bits >> 16) & 1)) >> 16
    # Rounding would carry a NaN over into infinity or zero.
    return np.where(np.isnan(array.reshape(-1)), 0x7FC0, rounded).astype(np.uint16)
