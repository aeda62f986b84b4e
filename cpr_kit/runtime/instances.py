"""The `instances` of a request as an array, with each way in which they may be wrong told to the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import MissingField, RequestError

if TYPE_CHECKING:
    import numpy as np


def of(request: Any) -> Any:
    """The instances of a decoded request. Raises RequestError for a body that is no object or has none."""
    if not isinstance(request, Mapping):
        raise RequestError(f'the body must be an object with "instances", not {_kind(request)}')
    if "instances" not in request:
        raise MissingField("instances")
    return request["instances"]


def array(values: Any, *, features: int | None = None) -> np.ndarray[Any, Any]:
    """(n, features) array of `values`: numbers as floats, anything with text as objects.

    Raises RequestError naming the first instance that is no list, or has another length than the others
    or than the model wants.
    """
    import numpy as np

    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise RequestError('"instances" must be a list with at least one instance')
    width = features
    for index, row in enumerate(values):
        if not isinstance(row, Sequence) or isinstance(row, str):
            raise RequestError(f"instance {index} must be a list of values, not {_kind(row)}")
        width = len(row) if width is None else width
        if len(row) != width:
            raise RequestError(f"instance {index} has {len(row)} values; {width} are wanted")
    try:
        rows = np.asarray(values)
    except ValueError as error:
        raise RequestError("the instances have different shapes") from error
    if rows.ndim != 2:  # noqa: PLR2004
        raise RequestError("each instance must be a flat list of values; these are lists of lists")
    return rows.astype(float, copy=False) if rows.dtype.kind in "iub" else _checked(rows, values)


def _checked(rows: np.ndarray[Any, Any], values: Any) -> np.ndarray[Any, Any]:
    """Floats as they are; mixed or textual rows as objects, so that a pipeline with encoders gets what was sent."""
    import numpy as np

    if rows.dtype.kind == "f":
        if not np.isfinite(rows).all():
            raise RequestError(
                f"instance {int(np.argwhere(~np.isfinite(rows))[0][0])} holds a number that is not finite"
            )
        return rows
    for index, row in enumerate(values):
        for value in row:
            if value is None or isinstance(value, dict):
                raise RequestError(f"instance {index} holds {_kind(value)} where a value is wanted")
    return np.asarray(values, dtype=object)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
