"""The `instances` of a request as an array, with each way in which they may be wrong told to the caller.

Instances and values are counted from 0. No message repeats what the caller sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn

from cpr_kit.errors import MissingField, RequestError
from cpr_kit.runtime.codecs.codec import listed
from cpr_kit.runtime.signature import ANY, Signature

if TYPE_CHECKING:
    import numpy as np

_NUMBERS = frozenset({int, float, bool})
_SCALARS = _NUMBERS | {str, type(None)}
_BUILT_IN = _SCALARS | {list, dict, tuple, bytes}
_SMALL = 4096
# From here on float64 skips integers, so that one of them may be another than was sent.
_EXACT = 2**53


def of(request: Any) -> Any:
    """The instances of a decoded request. Raises RequestError for a body that is no object or has none."""
    if not isinstance(request, (dict, Mapping)):  # dict first: an abstract class takes four times as long
        raise RequestError(f'the body must be an object with "instances", not {_kind(request)}')
    if "instances" not in request:
        raise MissingField("instances")
    return request["instances"]


def array(values: Any, *, signature: Signature = ANY, features: int | None = None) -> np.ndarray[Any, Any]:
    """(n, features) array of `values`: float64 or the signature's type for numbers, objects where there is text.

    `values` are lists, objects where the signature has names, bare values where there is one feature, or an array.
    Raises RequestError naming the instance, and the value in it, that the model cannot take.
    """
    import numpy as np

    width = signature.features if features is None else features
    if isinstance(values, np.ndarray):
        shape = values.shape
        if (
            # What the codecs make of a good request; the rest of this function would say the same in twice the time.
            values.dtype.char == "d"
            and len(shape) == 2  # noqa: PLR2004
            and shape[1] == width
            and 0 < values.size <= _SMALL
            and signature.dtype in (None, "float64")
            and math.isfinite(np.vdot(values, values))
        ):
            return values
        if values.dtype.kind not in "biuf":
            return _of_lists(values.tolist(), signature, width)
        rows = _of_array(values, width)
    elif not isinstance(values, Sequence) or isinstance(values, (str, bytes)) or not values:
        raise _empty()
    else:
        rows = _of_lists(values, signature, width)
        if rows.dtype.kind == "O":
            return rows
    _check_finite(rows, allow_missing=signature.allow_missing)
    return rows if signature.dtype in (None, "float64") else _cast(rows, str(signature.dtype))


def _of_array(values: np.ndarray[Any, Any], width: int | None) -> np.ndarray[Any, Any]:
    """Of numbers of any type to (n, width) float64."""
    if values.ndim == 1 and width == 1:
        values = values.reshape(-1, 1)
    if values.ndim != 2:  # noqa: PLR2004
        what = "a number" if values.ndim == 1 else "lists of lists"
        raise RequestError(f"each instance must be a flat list of values; these are {what}")
    if not len(values):
        raise _empty()
    if not values.shape[1] or width not in (None, values.shape[1]):
        raise _wrong_width(0, values.shape[1], width)
    return values.astype("f8", copy=False)


def _of_lists(values: Any, signature: Signature, width: int | None) -> np.ndarray[Any, Any]:
    """float64 of numbers, with NaN for null where that is allowed; objects of anything with text."""
    import numpy as np

    if not isinstance(values, Sequence) or not values:
        raise _empty()
    rows = _rows(values, signature, width)
    width = len(rows[0]) if width is None else width
    if not width or set(map(len, rows)) != {width}:
        index, row = next((index, row) for index, row in enumerate(rows) if not width or len(row) != width)
        raise _wrong_width(index, len(row), width)
    types = set(map(type, chain.from_iterable(rows)))
    if not types <= _NUMBERS:
        if not types <= _BUILT_IN:  # numpy's scalars, where the caller is Python and no request
            rows = [[value.item() if hasattr(value, "item") else value for value in row] for row in rows]
        if not _check_values(rows, signature):
            return _objects(rows, width, allow_missing=signature.allow_missing)
    elif signature.dtype == "object":
        return _objects(rows, width, allow_missing=signature.allow_missing)
    try:
        return np.array(rows, np.float64)
    except OverflowError as error:
        raise RequestError("the instances hold an integer beyond the range of float64") from error


def _rows(values: Sequence[Any], signature: Signature, width: int | None) -> Sequence[Sequence[Any]]:
    """The instances as sequences of values, of any length as yet."""
    kinds = set(map(type, values))
    if kinds == {list}:
        return values
    if signature.names is not None and any(issubclass(kind, Mapping) for kind in kinds):
        return _named(values, signature.names)
    if width == 1 and kinds <= _SCALARS:
        return [(value,) for value in values]
    for index, row in enumerate(values):
        if not isinstance(row, Sequence) or isinstance(row, (str, bytes)):
            if hasattr(row, "tolist") and getattr(row, "ndim", 0) == 1:
                continue
            raise RequestError(f"instance {index} must be a list of values, not {_kind(row)}")
    return [row.tolist() if hasattr(row, "tolist") else row for row in values]


def _named(values: Sequence[Any], names: tuple[str, ...]) -> list[Sequence[Any]]:
    """Objects as rows in the model's order."""
    pick = itemgetter(*names)
    rows = []
    for index, instance in enumerate(values):
        if not isinstance(instance, Mapping):
            raise RequestError(f"instance {index} must be an object, as the first is, not {_kind(instance)}")
        try:
            row = pick(instance)
        except KeyError:
            missing = tuple(name for name in names if name not in instance)
            raise RequestError(f"instance {index} has no {listed(missing)}") from None
        if len(instance) != len(names):
            unknown = len(instance) - len(names)
            raise RequestError(
                f"instance {index} has {unknown} name{'s' * (unknown > 1)} that the model does not know; "
                f"it takes {listed(names)}"
            )
        rows.append(row if len(names) > 1 else (row,))
    return rows


def _check_values(rows: Sequence[Sequence[Any]], signature: Signature) -> bool:
    """Whether all are numbers, or nulls that may be missing. Raises RequestError at what can be no value."""
    numeric = signature.dtype not in (None, "object")
    numbers = signature.dtype != "object"
    for index, row in enumerate(rows):
        for place, value in enumerate(row):
            if type(value) in _NUMBERS or (value is None and signature.allow_missing):
                continue
            if isinstance(value, list):
                _refuse_nested(index, place, row)
            if not isinstance(value, str) or numeric:
                what = "a number" if numeric else "a value"
                raise RequestError(f"instance {index} holds {_kind(value)} at value {place}, where {what} is wanted")
            numbers = False
    return numbers


def _refuse_nested(index: int, place: int, row: Sequence[Any]) -> NoReturn:
    if all(isinstance(value, list) for value in row):
        raise RequestError(f"each instance must be a flat list of values; instance {index} holds lists")
    raise RequestError(f"instance {index} holds a list at value {place}; its values have different shapes")


def _objects(rows: Sequence[Sequence[Any]], width: int, *, allow_missing: bool) -> np.ndarray[Any, Any]:
    """As they were sent, so that a pipeline with encoders gets text as text; a null is NaN, as pandas has it."""
    import numpy as np

    found = np.empty((len(rows), width), object)
    for index, row in enumerate(rows):
        for place, value in enumerate(row):
            if isinstance(value, float) and not math.isfinite(value) and not (allow_missing and math.isnan(value)):
                raise _not_finite(index, place)
            found[index, place] = math.nan if value is None else value
    return found


def _check_finite(rows: np.ndarray[Any, Any], *, allow_missing: bool) -> None:
    import numpy as np

    # One call, a third of the time of isfinite().all() for a few values; an overflow of the sum only asks again.
    if rows.size <= _SMALL and math.isfinite(np.vdot(rows, rows)):
        return
    wrong = np.isinf(rows) if allow_missing else ~np.isfinite(rows)
    if wrong.any():
        index, place = (int(number) for number in np.argwhere(wrong)[0])
        raise _not_finite(index, place)


def _cast(rows: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """As the type the model declares. Raises RequestError for a number that would become another, or infinite."""
    import numpy as np

    kind = np.dtype(dtype)
    if kind.kind == "O":
        return rows.astype(object)
    with np.errstate(over="ignore", invalid="ignore"):
        found = rows.astype(kind)
        # Infinite where no row is: beyond the range. Another number, or beyond what float64 counts one by one.
        wrong = np.isinf(found) if kind.kind == "f" else (found.astype("f8") != rows) | (np.abs(rows) >= _EXACT)
    if wrong.any():
        index, place = (int(number) for number in np.argwhere(wrong)[0])
        raise RequestError(f"instance {index} holds a number at value {place} that is no {dtype}")
    return found


def _empty() -> RequestError:
    return RequestError('"instances" must be a list with at least one instance')


def _wrong_width(index: int, found: int, wanted: int | None) -> RequestError:
    return RequestError(f"instance {index} has {found} values; {wanted or 'at least one'} are wanted")


def _not_finite(index: int, place: int) -> RequestError:
    return RequestError(f"instance {index} holds a number that is not finite, at value {place}")


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    names = {list: "a list", str: "text", bytes: "bytes", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
