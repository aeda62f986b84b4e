"""CSV (RFC 4180): an instance a line in, a prediction a line out.

A field that reads as a number is one, in quotes or not; an empty field is null; all else is text.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from typing import Any

from cpr_kit.errors import RequestError
from cpr_kit.runtime.codecs import json
from cpr_kit.runtime.codecs.codec import Body, Wants, ordered, predictions_of, prepared, rectangle, rows_of
from cpr_kit.runtime.codecs.media import Media

_NUMERIC = b"0123456789+-.eE, \t\r\n"
_INTEGER = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SCALARS = (int, float, str, bool, type(None))

_Rows = list[tuple[int, list[Any]]]


def decode(body: bytes | bytearray, media: Media, wants: Wants) -> Body:
    """Rows as lists. The first line is a header if the Content-Type says `header=present`, or, unless it says
    `absent`, if it holds no number and a later line does. Raises RequestError naming line and column.
    """
    request = _plain_numbers(body, wants) if media.header != "present" else None
    request = request or _headed_numbers(body, media, wants)
    if request is not None:
        return request
    lines = list(_lines(body))
    header = lines.pop(0) if lines and _has_header(lines, media) else None
    if not lines:
        raise RequestError("the body holds no row of values")
    width = len((header or lines[0])[1])
    for number, row in lines:
        if len(row) != width:
            raise RequestError(f"line {number} has {len(row)} columns; {width} are wanted")
    if wants.array:
        _check_columns(lines)
    rows = [row for _, row in lines]
    places = ordered([str(name) for name in header[1]], wants) if header else None
    return prepared([[row[place] for place in places] for row in rows] if places else rows, wants)


def encode(value: Any) -> bytes:
    """Rows; predictions that are objects with the same keys get a header. Raises TypeError for nested ones."""
    numbers = _numbers(predictions_of(value))
    if numbers is not None:
        return numbers
    rows = rows_of(value)
    if rows and all(isinstance(row, dict) for row in rows):
        names = list(rows[0])
        if any(list(row) != names for row in rows):
            raise TypeError("predictions with different keys have no CSV form")
        rows = [names, *([row[name] for name in names] for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([_field(value) for value in _cells(row)] for row in rows)
    return text.getvalue().encode()


def _numbers(predictions: Any) -> bytes | None:
    """Of arrays of numbers: JSON but for its brackets, and without null. None for anything else."""
    array: Any = rectangle(predictions) if isinstance(predictions, list) else predictions
    if getattr(getattr(array, "dtype", None), "kind", "") not in ("i", "u", "f") or array.ndim not in (1, 2):
        return None
    if not array.size:
        return b""
    text = json.dumps(array.reshape(len(array), -1))
    return text[2:-2].replace(b"],[", b"\r\n").replace(b"null", b"") + b"\r\n"


def _plain_numbers(body: bytes | bytearray, wants: Wants) -> Body | None:
    """Nothing but numbers is JSON but for its brackets, and JSON's readers are faster. None if it is not that."""
    if body.translate(None, _NUMERIC):
        return None
    text = b'{"instances":[[' + b"],[".join(body.split()) + b"]]}"
    try:
        request = json.decode(text, Media(json.JSON), wants)
    except RequestError:
        return None
    rows = request["instances"]
    flat = not isinstance(rows, list) or (rows[0] and len(set(map(len, rows))) == 1)
    return request if flat else None


def _headed_numbers(body: bytes | bytearray, media: Media, wants: Wants) -> Body | None:
    """The same below a line of names, as pandas writes it."""
    first, _, rest = body.partition(b"\n")
    if media.header == "absent" or b'"' in first or not first.strip() or not first.isascii():
        return None
    names = [name.strip() for name in first.decode().split(",")]
    if media.header != "present" and any(_FLOAT.fullmatch(name) for name in names):
        return None
    request = _plain_numbers(rest, wants)
    if request is None or len(request["instances"][0]) != len(names):
        return None
    places = ordered(names, wants)
    if places:
        rows = request["instances"]
        ranked = [[row[place] for place in places] for row in rows] if isinstance(rows, list) else rows[:, places]
        request["instances"] = ranked
    return request


def _lines(body: bytes | bytearray) -> Iterator[tuple[int, list[Any]]]:
    """The number of each line that is not empty, and its values."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8: byte {error.start} is wrong") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, [_value(field, reader.line_num, place) for place, field in enumerate(row, 1)]
    except csv.Error as error:
        raise RequestError(f"line {reader.line_num} is no CSV: {error}") from error


def _value(field: str, line: int, column: int) -> Any:
    text = field.strip()
    if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**64:  # as JSON has it; longer ones are floats
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise RequestError(f"line {line} column {column} is a number beyond the range of float64")
        return number
    return field if text else None


def _has_header(lines: _Rows, media: Media) -> bool:
    if media.header in ("present", "absent"):
        return media.header == "present"
    return not _has_number(lines[0][1]) and any(_has_number(row) for _, row in lines[1:])


def _has_number(row: list[Any]) -> bool:
    return any(isinstance(value, (int, float)) for value in row)


def _check_columns(lines: _Rows) -> None:
    """A column is numbers or text: one mixed of both holds a slip, which would turn the whole request into text."""
    for column, values in enumerate(zip(*(row for _, row in lines), strict=True), 1):
        kinds = [type(value) is str for value in values if value is not None]
        if len(set(kinds)) == 2:  # noqa: PLR2004
            text = kinds[0]
            number = next(
                line for (line, _), value in zip(lines, values, strict=True)
                if value is not None and (type(value) is str) is not text
            )  # fmt: skip
            what = "a number; the lines before have text" if text else "text; the lines before have a number"
            raise RequestError(f"line {number} column {column} is {what}")


def _cells(row: Any) -> list[Any]:
    row = row.tolist() if hasattr(row, "tolist") else row
    cells = list(row) if isinstance(row, (list, tuple)) else [row]
    return [cell.item() if hasattr(cell, "item") else cell for cell in cells]


def _field(value: Any) -> Any:
    """What the writer takes: no number and null are both the empty field, as both are null in JSON."""
    if not isinstance(value, _SCALARS):
        raise TypeError(f"a prediction that holds a {type(value).__name__} has no CSV form")
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if isinstance(value, float) and not math.isfinite(value) else value
