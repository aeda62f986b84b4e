"""Requests and answers of TensorFlow Serving's REST API: tensors in rows (`instances`) or in columns (`inputs`).

The rules are those of "RESTful API" in TensorFlow Serving's guide: bytes are {"b64": "..."}, an output whose name ends
in `_bytes` is written so, a single input needs no name.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from cpr_kit.model_server.signature import Arrays, Signature, Tensor
from cpr_kit.model_server.status import ServingError, invalid

Array = np.ndarray[Any, Any]
_SHOWN = 80


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request's body, read: its signature, its inputs, and whether they came in rows."""

    signature: Signature
    inputs: dict[str, Array]
    in_rows: bool


def read(body: bytes, find: Callable[[str], Signature]) -> Asked:
    """Raises ServingError with TensorFlow Serving's words and what the signature takes."""
    value = _parsed(body)
    name = value.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid("'signature_name' key must be a string value.")
    signature = find(name)
    if ("instances" in value) == ("inputs" in value):
        which = "Expecting either 'inputs' or 'instances', not both" if "inputs" in value else _NEITHER
        raise invalid(which)
    in_rows = "instances" in value
    columns = _rows(value["instances"], signature) if in_rows else _columns(value["inputs"], signature)
    has_bools = b"true" in body or b"false" in body
    inputs = {
        name: array(columns[name], tensor, has_bools=has_bools)
        for name, tensor in signature.inputs.items()
        if name in columns
    }
    signature.check(inputs)
    return Asked(signature=signature, inputs=inputs, in_rows=in_rows)


_NEITHER = "Missing 'inputs' or 'instances' key"


def write(outputs: Arrays, *, in_rows: bool) -> bytes:
    """The answer's body; a single output stands without its name."""
    values = {name: _shown(name, value) for name, value in outputs.items()}
    single = next(iter(values.values())) if len(values) == 1 else None
    if not in_rows:
        return _dumped({"outputs": values if single is None else single}, outputs)
    sizes = {len(value) if value.ndim else None for value in outputs.values()}
    if len(sizes) != 1 or None in sizes:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in sorted(outputs.items()))
        raise invalid(
            f"the outputs have no common batch size: {shapes}; ask in columns, with 'inputs' instead of 'instances'"
        )
    if single is not None:
        return _dumped({"predictions": single}, outputs)
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return _dumped({"predictions": rows}, outputs)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        # Unlike orjson it takes NaN and Infinity, which TensorFlow Serving reads and writes.
        value = json.loads(body.decode())
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from error
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg.removesuffix(' starting at')} at offset: {error.pos}") from error
    except ValueError as error:  # Python reads no integer of thousands of digits
        raise invalid("JSON Parse error: Number too big to be stored in double.") from error
    except RecursionError as error:
        raise invalid("JSON Parse error: lists and objects are nested too deeply") from error
    if not isinstance(value, dict):
        raise invalid("Malformed request: the body must be a JSON object")
    return value


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _rows(instances: Any, signature: Signature) -> dict[str, Any]:
    if not isinstance(instances, list):
        raise invalid("Expecting 'instances' value to be an list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    if (bare := _bare(signature)) and not (isinstance(instances[0], dict) and not _is_bytes(instances[0])):
        return {bare: instances}
    columns: dict[str, list[Any]] = {name: [] for name in instances[0]} if isinstance(instances[0], dict) else {}
    for number, instance in enumerate(instances):
        where = f"Failed to process element: {number} of 'instances' list."
        if not isinstance(instance, dict):
            raise invalid(f"{where} Expecting an object with the named inputs; {signature.expecting()}")
        _check_names(instance, signature, where)
        if uneven := sorted(instance.keys() ^ columns.keys()):  # inputs that may be left out
            raise invalid(f"{where} All elements must have {uneven[0]}, or none; {signature.expecting()}")
        for name, column in columns.items():
            column.append(instance[name])
    return columns


def _columns(inputs: Any, signature: Signature) -> Mapping[str, Any]:
    if (bare := _bare(signature)) and not (isinstance(inputs, dict) and not _is_bytes(inputs)):
        return {bare: inputs}
    if not isinstance(inputs, dict):
        raise invalid(f"Failed to process 'inputs'. Expecting an object with the named inputs; {signature.expecting()}")
    _check_names(inputs, signature, "Failed to process 'inputs'.")
    return inputs


def _bare(signature: Signature) -> str:
    """The input that needs no name, where there is one."""
    needed = signature.required or list(signature.inputs)
    return needed[0] if len(needed) == 1 else ""


def _check_names(given: Mapping[str, Any], signature: Signature, where: str) -> None:
    for name in signature.required:
        if name not in given:
            raise invalid(f"{where} JSON object: does not have named input: {name}; {signature.expecting()}")
    for name in given:
        if name not in signature.inputs:
            raise invalid(f"{where} JSON object: has an unknown input: {name}; {signature.expecting()}")


def array(value: Any, tensor: Tensor, *, has_bools: bool = True) -> Array:
    """The JSON value as the input that it is for. Raises ServingError for other types, and for ragged lists.

    `has_bools` is whether there may be true or false in it: looking for them takes a step for each number.
    """
    try:
        if tensor.dtype is None:
            return _text_array(value, tensor)
        return _number_array(value, tensor, tensor.dtype, has_bools=has_bools)
    except RuntimeError as error:  # the depth of Python's calls, or numpy's dimensions, have an end
        raise invalid(f"input {tensor.name} has lists that are nested too deeply") from error


def _text_array(value: Any, tensor: Tensor) -> Array:
    found = np.array(_texts(value, tensor), dtype=object)
    if any(isinstance(each, list) for each in found.flat):
        raise _ragged(tensor)
    return found


def _number_array(value: Any, tensor: Tensor, dtype: np.dtype[Any], *, has_bools: bool) -> Array:
    if dtype.kind == "c":
        raise invalid(f"input {tensor.name} is {tensor.dtype_name}, which JSON has no form for; ask over gRPC")
    try:
        found = np.array(value)
    except ValueError as error:
        raise _ragged(tensor) from error
    if found.size == 0:
        return found.astype(dtype)
    if found.dtype.kind == "O" and all(type(each) in (int, float) for each in found.flat):
        found = _beyond_64_bits(found, tensor, dtype)
    fits = found.dtype.kind in _kinds(dtype)
    if not fits or (has_bools and dtype.kind != "b"):  # numpy takes true among numbers for 1
        _check_each(value, tensor, dtype)
    if not fits:  # each alone is of the type, and all together are not: beyond int64 here, negative there
        raise _too_large(tensor)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if found.min() < limits.min or found.max() > limits.max:
            raise _too_large(tensor)
    with np.errstate(over="ignore"):
        cast = found.astype(dtype)
    if dtype.kind not in "iub" and bool(np.any(np.isfinite(found) & ~np.isfinite(cast))):
        raise _too_large(tensor)
    return cast


def _beyond_64_bits(found: Array, tensor: Tensor, dtype: np.dtype[Any]) -> Array:
    """Whole numbers that numpy has no type for: as floats, where floats are asked for."""
    if dtype.kind in "iu":
        raise _too_large(tensor)
    try:
        return found.astype("float64")
    except OverflowError as error:
        raise _too_large(tensor) from error


def _kinds(dtype: np.dtype[Any]) -> str:
    return {"b": "b", "i": "iu", "u": "iu"}.get(dtype.kind, "iuf")


def _texts(value: Any, tensor: Tensor) -> Any:
    if isinstance(value, list):
        return [_texts(each, tensor) for each in value]
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise invalid(f"JSON Value: {_excerpt(value)} holds half a character, which is no text") from error
    if not _is_bytes(value):
        raise _mistyped(value, tensor)
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise invalid(f"JSON Value: {_excerpt(value)} not formatted correctly for base64 data") from error


def _check_each(value: Any, tensor: Tensor, dtype: np.dtype[Any]) -> None:
    """Raises for the first value that is not of the type."""
    wanted = {"b": (bool,), "i": (int,), "u": (int,)}.get(dtype.kind, (int, float))
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, list):
            pending += reversed(each)
        elif type(each) not in wanted:
            raise _mistyped(each, tensor)


def _mistyped(value: Any, tensor: Tensor) -> ServingError:
    kinds = {bool: "Bool", int: "Number", float: "Number", str: "String", dict: "Object", list: "Array"}
    kind = kinds.get(type(value), "Null")
    return invalid(
        f"JSON Value: {_excerpt(value)} Type: {kind} is not of expected type: {tensor.dtype_name} (input {tensor.name})"
    )


def _too_large(tensor: Tensor) -> ServingError:
    return invalid(f"input {tensor.name} has a number that does not fit {tensor.dtype_name}")


def _ragged(tensor: Tensor) -> ServingError:
    return invalid(f"input {tensor.name} has lists of unequal length or depth; each row must have the same shape")


def _excerpt(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _shown(name: str, value: Array) -> Array:
    """Text as str, bytes as {"b64": ...}; numbers stay as they are. Raises ServingError for complex ones."""
    if value.dtype.kind == "c":
        raise invalid(f"output {name} is {value.dtype.name}, which JSON has no form for; ask over gRPC")
    if value.dtype.kind != "O":
        return np.asarray(value, order="C")
    shown = np.empty(value.shape, dtype=object)
    for index in np.ndindex(value.shape):
        shown[index] = _text(name, value[index])
    return shown


def _text(name: str, value: Any) -> Any:
    if name.endswith("_bytes"):
        return {"b64": base64.b64encode(value).decode()}
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ServingError(
            "INTERNAL", f'output {name} holds bytes that are no UTF-8; give it a name that ends in "_bytes"'
        ) from error


def _dumped(value: Any, outputs: Arrays) -> bytes:
    # numpy calls bfloat16's kind V.
    if all(each.dtype.kind not in "fV" or bool(np.isfinite(each).all()) for each in outputs.values()):
        return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(value, default=_plain).encode()


def _plain(value: Any) -> Any:
    """For what orjson and json do not know of: numpy's objects and smaller types."""
    return value.tolist()
