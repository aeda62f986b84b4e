"""A request body for a signature that the model takes as it stands, in the forms of TensorFlow Serving's REST API.

Rows ("instances") where all inputs share their first dimension, as that API demands, and columns ("inputs") where they
do not.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

from cpr_kit.errors import UsageError
from cpr_kit.savedmodel.signatures import DEFAULT, Shape, Signature, Tensor, find, shown, size_of

# Eight by eight grey pixels: what decodes an image must be given one.
JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqm"
    "x5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAIAAgD"
    "ASIAAhEBAxEB/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/xAAUAQEAAAAAAAAAAAAAAAAAAAAA/8QAFBEBAAAA"
    "AAAAAAAAAAAAAAAAAP/aAAwDAQACEQMRAD8AAA//2Q=="
)
_MOST_VALUES = 4_000_000  # 16 MB of JSON: more than any endpoint lets through
_IMAGE_SIDE = 32
"""Of a picture whose sides may be any size: networks halve them up to five times."""
_IMAGE_RANK = 4


def body(
    signatures: Mapping[str, Signature], name: str = DEFAULT, *, serialised: bytes | None = None
) -> dict[str, Any]:
    """An example for one signature, which is named in it unless it is the default one.

    `serialised` is a tf.train.Example for a signature that takes these (`features.example` makes it).

    Raises UsageError for an unknown signature, and for one that JSON cannot be written for.
    """
    signature = find(signatures, name)
    inputs = signature.required or dict(signature.inputs)
    for tensor in inputs.values():
        if not tensor.is_json:
            kind = tensor.dtype if tensor.dense else f"a sparse or ragged {tensor.dtype}"
            raise UsageError(f'input "{shown(tensor.name)}" of "{shown(name)}" is {kind}, which JSON cannot write')
    rows = batch(inputs)
    shapes = {key: _sizes(tensor) for key, tensor in inputs.items()}
    values = sum(math.prod(shape) for shape in shapes.values())
    if values * (rows or 1) > _MOST_VALUES:
        large = ", ".join(f'"{shown(key)}" is {size_of(tensor.shape)}' for key, tensor in inputs.items())
        raise UsageError(f'an example for "{shown(name)}" would have over {_MOST_VALUES} values, more than any '
                         f"endpoint lets through: {large}")  # fmt: skip
    head = {} if name == DEFAULT else {"signature_name": name}
    one = {key: _one(tensor) for key, tensor in inputs.items()}
    if serialised is not None and signature.takes_examples:
        text = {"b64": base64.b64encode(serialised).decode()}
        one = {key: text if tensor.dtype == "string" else one[key] for key, tensor in inputs.items()}
    if rows is None:
        return {**head, "inputs": {key: _filled(one[key], shapes[key]) for key in inputs}}
    row = {key: _filled(one[key], shapes[key][1:]) for key in inputs}
    return {**head, "instances": [row] * rows}


def batch(inputs: Mapping[str, Tensor]) -> int | None:
    """How many instances an example has: one, or the size that the model fixes. None where rows cannot be written."""
    if not inputs or any(tensor.shape == () for tensor in inputs.values()):
        return None
    fixed = {tensor.shape[0] for tensor in inputs.values() if tensor.shape} - {None}
    if len(fixed) > 1:
        return None
    return next((size for size in fixed if size is not None), 1)


def needs_raw(content: Mapping[str, Any]) -> bool:
    """Whether Vertex AI's predict cannot carry it: it takes "instances" and "parameters" alone."""
    return "instances" not in content or "signature_name" in content


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    """Any size is one; of a picture with free sides, one that convolutions take."""
    shape: Shape = tensor.shape if tensor.shape is not None else (None,)
    side = _IMAGE_SIDE if len(shape) == _IMAGE_RANK else 1
    return tuple((side if place else 1) if size is None else size for place, size in enumerate(shape))


def _filled(value: Any, sizes: tuple[int, ...]) -> Any:
    for size in reversed(sizes):
        value = [value] * size
    return value


def _one(tensor: Tensor) -> Any:
    if tensor.dtype == "string":
        return {"b64": JPEG} if tensor.is_binary else "text"
    return False if tensor.dtype == "bool" else 0 if tensor.dtype.startswith(("int", "uint")) else 0.0
