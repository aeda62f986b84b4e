"""What a codec is, what a predictor wants of one, and the steps that several codecs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import MissingField, RequestError
from cpr_kit.runtime.codecs.media import Media

if TYPE_CHECKING:
    import numpy as np

MAX_DEPTH = 64
"""How deep a request may nest; more is never data, and costs whatever walks over it a stack."""

_NUMBERS = {int, float}


class Body(dict[str, Any]):
    """A JSON object from a request. A key that is not there is the caller's mistake, so it becomes a 400."""

    def __missing__(self, key: str) -> Any:
        raise MissingField(key)


@dataclass(frozen=True, kw_only=True)
class Wants:
    """What a predictor takes.

    array: "instances" as an (n, features) float64 ndarray, where they are such; lists where they are not.
    media_types: types of raw bytes that the author allows beside the table's, such as "image/*".
    names: the model's columns; a CSV header or an Arrow schema that names the same ones is put in this order.
    """

    array: bool = False
    media_types: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Codec:
    """One row of the table: the types it goes by, and the module here that holds its `decode` and `encode`.

    library: the optional distribution that it needs.
    """

    types: tuple[str, ...]
    module: str
    library: str | None = None

    def decode(self, body: bytes | bytearray, media: Media, wants: Wants) -> Any:
        """Raises RequestError for a body that is none."""
        return self._load().decode(body, media, wants)

    def encode(self, value: Any) -> bytes:
        """Raises TypeError for a value without such a form."""
        content: bytes = self._load().encode(value)
        return content

    def _load(self) -> Any:
        # When it is asked for: most servers speak JSON alone, and each module is a file to read at the start.
        return import_module(f"cpr_kit.runtime.codecs.{self.module}")


def rectangle(rows: Any) -> np.ndarray[Any, Any] | None:
    """(n, features) float64 of a list of equally long lists of numbers; None for anything else, which is no error."""
    if type(rows) is not list or set(map(type, rows)) != {list}:
        return None
    widths = set(map(len, rows))
    if len(widths) != 1 or widths == {0} or not set(map(type, chain.from_iterable(rows))) <= _NUMBERS:
        return None
    import numpy as np

    try:
        return np.array(rows, np.float64)
    except OverflowError:  # an int that no float holds; `instances.array` tells which
        return None


def prepared(rows: Any, wants: Wants) -> Body:
    """The request of decoded rows, as the predictor wants them."""
    array = rectangle(rows) if wants.array else None
    return Body(instances=rows if array is None else array)


def from_array(array: np.ndarray[Any, Any], wants: Wants) -> Body:
    """The request of an array: lists for those who know JSON's, two-dimensional float64 for those who want arrays."""
    import numpy as np

    if not wants.array:
        return Body(instances=array.tolist())
    # A copy also where nothing changes: `array` looks into the request's bytes, and a predictor may write into it.
    return Body(instances=array.astype(np.float64, order="C") if array.ndim == 2 else array.copy())  # noqa: PLR2004


def check_depth(value: Any) -> None:
    """Raises RequestError for a value that nests deeper than MAX_DEPTH. A level at a time, so without recursion."""
    level: list[Any] = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer if type(outer) is list else outer.values())
            if type(inner) is list or type(inner) is dict
        ]
        if not level:
            return
    raise too_deep()


def too_deep() -> RequestError:
    return RequestError(f"the body is nested deeper than {MAX_DEPTH}")


def ordered(header: list[str], wants: Wants) -> list[int] | None:
    """Where each of the model's columns stands in `header`; None to take the columns as they come.

    Raises RequestError when the model names its columns and `header` holds others.
    """
    if wants.names is None:
        return None
    if sorted(header) != sorted(wants.names):
        raise RequestError(f"the columns must be {listed(wants.names)}, in any order; the request names others")
    return [header.index(name) for name in wants.names]


def listed(names: tuple[str, ...]) -> str:
    """The model's names for a message; a wide model's are cut off."""
    shown = ", ".join(f'"{name}"' for name in names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"  # noqa: PLR2004


def predictions_of(value: Any) -> Any:
    """What a format without objects answers: the predictions themselves."""
    return value["predictions"] if isinstance(value, Mapping) and "predictions" in value else value


def rows_of(value: Any) -> list[Any]:
    """The predictions one by one, as plain values. Raises TypeError for an answer that is no list of them."""
    rows = predictions_of(value)
    rows = rows.tolist() if hasattr(rows, "tolist") else rows
    if not isinstance(rows, (list, tuple)):
        raise TypeError(f"an answer of type {type(rows).__name__} is no list of predictions, as this format needs one")
    return list(rows)
