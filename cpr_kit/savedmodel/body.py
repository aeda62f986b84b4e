"""Whether a model takes a request body, before it is sent: TensorFlow Serving's REST API, "Predict API".

Each fault is a sentence that names the place, the value and what the signature takes.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from cpr_kit.savedmodel.signatures import (
    DEFAULT,
    FLOATS,
    INTEGERS,
    Signature,
    Tensor,
    listed,
    meant,
    shown,
    size_of,
    unknown_signature,
)

_MOST = 10
_LONGEST = 40
_DEEPEST = 64


class _Fault(Exception):
    """The first fault of a value."""


def check(signatures: Mapping[str, Signature], content: bytes) -> list[str]:
    """The faults of a body as it would be sent."""
    try:
        body = json.loads(content)
    except UnicodeDecodeError:
        return ["the body is not UTF-8"]
    except RecursionError:
        return ["the body is nested too deeply"]
    except ValueError as error:
        return [f"the body is not JSON: {error}"]
    if not isinstance(body, dict):
        return [f'the body is {_short(body)}; it must be an object with "instances" or "inputs"']
    return faults(signatures, body)


def faults(signatures: Mapping[str, Signature], body: Mapping[str, Any]) -> list[str]:
    """What is wrong with a body for these signatures, at most ten faults; empty when the model takes it."""
    found = list(itertools.islice(_faults(signatures, body), _MOST + 1))
    return found if len(found) <= _MOST else [*found[:_MOST], "and more"]


def _faults(signatures: Mapping[str, Signature], body: Mapping[str, Any]) -> Iterator[str]:
    name = body.get("signature_name", DEFAULT)
    if not isinstance(name, str):
        yield f'"signature_name" is {_short(name)}; it must be the name of a signature: {listed(signatures)}'
        return
    if name not in signatures:
        fault = unknown_signature(signatures, name)
        yield fault if "signature_name" in body else f'{fault}; a body without "signature_name" means that one'
        return
    signature = signatures[name]
    if "instances" in body and "inputs" in body:
        yield 'the body has "instances" and "inputs"; it must have one of them'
    elif "instances" in body:
        yield from _rows(signature, body["instances"])
    elif "inputs" in body:
        yield from _columns(signature, body["inputs"])
    else:
        keys = f"it has {listed(body)}" if body else "it is empty"
        close = "".join(meant(key, ("instances", "inputs")) for key in body)
        yield f'the body has neither "instances" nor "inputs"; {keys}{close}'


def _rows(signature: Signature, instances: Any) -> Iterator[str]:
    if not isinstance(instances, list) or not instances:
        yield f'"instances" is {_short(instances)}; it must be a list with one item or more'
        return
    for tensor in signature.required.values():
        if tensor.shape == ():
            yield f'"{shown(tensor.name)}" is one value for the whole request, so write "inputs", not "instances"'
            return
        if tensor.shape and tensor.shape[0] not in {None, len(instances)}:
            yield f'"{shown(tensor.name)}" takes {tensor.shape[0]} instances a request; there are {len(instances)}'
            return
    first: dict[str, tuple[int, ...]] = {}
    for number, instance in enumerate(instances):
        where = f"instance {number}"
        row = _named(signature, instance)
        if row is None:
            yield f"{where} is {_short(instance)}; it must be an object: {_takes(signature)}"
            continue
        yield from _names(signature, row, where)
        shapes: dict[str, tuple[int, ...]] = {}
        for key in row.keys() & signature.inputs.keys():
            tensor = signature.inputs[key]
            expected = None if tensor.shape is None else tensor.shape[1:]
            try:
                shapes[key] = _check(tensor, row[key], expected, where)
            except _Fault as fault:
                yield str(fault)
        if number and (missed := [key for key in shapes if key not in first and signature.inputs[key].optional]):
            yield f"{where} has {listed(sorted(missed))}, and instance 0 has not; all must have the same inputs"
        first = first or shapes
        yield from _uneven(first, shapes, where)


def _uneven(first: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]], where: str) -> Iterator[str]:
    """The rows of a request become one tensor."""
    for key in sorted(first.keys() & shapes.keys()):
        if first[key] != shapes[key]:
            sizes = f"{size_of(shapes[key])}, and instance 0 has {size_of(first[key])}"
            yield f'{where}: "{shown(key)}" has {sizes}; the instances of one request must have the same shape'


def _columns(signature: Signature, inputs: Any) -> Iterator[str]:
    columns = _named(signature, inputs)
    if columns is None:
        yield f'"inputs" is {_short(inputs)}; it must be an object: {_takes(signature)}'
        return
    yield from _names(signature, columns, '"inputs"')
    for key in sorted(columns.keys() & signature.inputs.keys()):
        tensor = signature.inputs[key]
        try:
            _check(tensor, columns[key], tensor.shape, '"inputs"')
        except _Fault as fault:
            yield str(fault)


def named(signature: Signature, value: Any) -> dict[str, Any]:
    """The inputs of an instance, or of "inputs", by their names: a signature with one input takes it bare too."""
    return _named(signature, value) or {}


def _named(signature: Signature, value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict) and not _is_b64(value):
        return value
    needed = list(signature.required or signature.inputs)
    return {needed[0]: value} if len(needed) == 1 else None


def _names(signature: Signature, row: Mapping[str, Any], where: str) -> Iterator[str]:
    unknown = [name for name in row if name not in signature.inputs]
    lacking = [name for name in signature.required if name not in row]
    if not unknown and not lacking:
        return
    parts = [f"{where} lacks {listed(lacking)}"] * bool(lacking)
    if unknown:
        many = "are no inputs" if len(unknown) > 1 else "is no input"
        close = "".join(meant(name, lacking) for name in unknown)
        parts.append(f"{'it' if lacking else where} has {listed(unknown)}, which {many}{close}")
    yield "; ".join([*parts, _takes(signature)])


def _takes(signature: Signature) -> str:
    return f'signature "{shown(signature.name)}" takes {listed(signature.inputs) or "no inputs"}'


def _check(tensor: Tensor, value: Any, expected: tuple[int | None, ...] | None, where: str) -> tuple[int, ...]:
    """The shape of a value that the tensor takes. Raises _Fault."""
    what = f'{where}: "{shown(tensor.name)}"'
    if not tensor.is_json:
        kind = tensor.dtype if tensor.dense else f"a sparse or ragged {tensor.dtype}"
        raise _Fault(f"{what} is {kind}, which JSON cannot write; take another signature")
    shape = _shape(tensor, value, what)
    # An empty list does not show the sizes below it.
    fits = expected is None or ((
        len(shape) <= len(expected) if 0 in shape else len(shape) == len(expected)
    ) and all(want in {None, size} for want, size in zip(expected, shape, strict=False)))  # fmt: skip
    if not fits:
        raise _Fault(f"{what} has the shape {size_of(shape)}, and the model takes {size_of(expected)}")
    return shape


def _shape(tensor: Tensor, value: Any, what: str, depth: int = 0) -> tuple[int, ...]:
    if depth > _DEEPEST:
        raise _Fault(f"{what} is nested too deeply")
    if not isinstance(value, list):
        if fault := _value_fault(tensor.dtype, value):
            raise _Fault(f"{what} has {_short(value)}, and {fault}")
        return ()
    shapes = {_shape(tensor, item, what, depth + 1) for item in value}
    if len(shapes) > 1:
        some = " and ".join(size_of(shape) for shape in sorted(shapes)[:2])
        raise _Fault(f"{what} has lists of unequal shapes, {some}; a tensor has one")
    return (len(value), *(shapes.pop() if shapes else ()))


def _value_fault(dtype: str, value: Any) -> str:
    if dtype == "string":
        return _text_fault(value)
    if dtype == "bool":
        return "" if isinstance(value, bool) else "a bool takes true or false"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"{dtype} takes a number"
    if dtype in FLOATS:
        return "" if isinstance(value, float) or _is_double(value) else f"{dtype} cannot hold it"
    if isinstance(value, float):  # 1.0 too: TensorFlow Serving goes by how a number is written
        return f"{dtype} takes a whole number, without a point"
    low, high = INTEGERS[dtype]
    return "" if low <= value <= high else f"{dtype} holds {low} to {high}"


def _is_double(value: int) -> bool:
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _text_fault(value: Any) -> str:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "it holds half a character, which is no text"
        return ""
    if not _is_b64(value):
        return 'a string takes text, or {"b64": "..."} for bytes'
    try:
        base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        return "what stands under b64 is not base64"
    return ""


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"]


def _short(value: Any) -> str:
    """A value as JSON writes it, shortened."""
    if value is None:
        return "null"
    if isinstance(value, (list, dict)) and len(value) > _LONGEST:
        return f"a list of {len(value)}" if isinstance(value, list) else f"an object of {len(value)} keys"
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return "a value that JSON cannot write"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
