"""What both sides are asked: a file's bodies or instances, all read before the first request goes out."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from cpr_kit.errors import UsageError
from cpr_kit.harness import client

_LINES = (".jsonl", ".ndjson")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Request:
    """One body. `name` says where it is from; `instances` names each of its instances, where that is another place."""

    name: str
    body: bytes
    content_type: str = client.JSON
    instances: tuple[str, ...] = ()

    def where(self, index: int | None) -> str:
        """What a person finds an instance by.

        >>> Request(name="line 3", body=b"").where(0)
        'line 3, instance 0'
        >>> Request(name="lines 1-2", body=b"", instances=("line 1", "line 2")).where(1)
        'line 2'
        """
        if index is None:
            return self.name
        return self.instances[index] if index < len(self.instances) else f"{self.name}, instance {index}"


@dataclass(frozen=True)
class _Line:
    """A line's value; `is_body` where it is no instance, but a whole body."""

    number: int
    value: Any
    is_body: bool = False


def read(path: Path, *, rows: int = 1) -> tuple[Request, ...]:
    """By suffix: .jsonl and .ndjson (a body or an instance a line), .csv (an instance a line), .json (one body).

    A folder has one body a file, of the type that its suffix says. `rows` instances share a request; a whole body
    stays what it is. Raises UsageError, which names every bad line, for what cannot be read or holds nothing.
    """
    if path.is_dir():
        found = _of_folder(path)
    elif path.suffix.lower() in _LINES:
        found = _joined(_json_lines(path), rows)
    elif path.suffix.lower() == ".csv":
        found = _joined(_csv_lines(path), rows)
    elif path.suffix.lower() == ".json":
        found = _of_json(path, rows)
    else:
        raise UsageError(f"{path} is no .jsonl, .json or .csv file and no folder of requests; rename it, or convert it")
    if not found:
        raise UsageError(f"{path} holds no request")
    return found


def of_values(values: Iterable[Any], *, rows: int = 1) -> tuple[Request, ...]:
    """From Python: Requests, bodies (mappings with a list "instances") and instances, named by their place from 1."""
    made: list[Request] = []
    lines: list[_Line] = []
    for number, value in enumerate(values, 1):
        if isinstance(value, Request):
            made += [*_joined(lines, rows, "request"), value]
            lines = []
        else:
            lines.append(_Line(number, value, _is_body(value)))
    found = (*made, *_joined(lines, rows, "request"))
    if not found:
        raise UsageError("there is no request to compare with")
    return found


def _of_folder(folder: Path) -> tuple[Request, ...]:
    files = sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))
    made = []
    for file in files:
        body, content_type = client.encode(file)
        made.append(Request(name=file.name, body=body, content_type=content_type))
    return tuple(made)


def _of_json(path: Path, rows: int) -> tuple[Request, ...]:
    """A list is one of instances: a body of Vertex AI's is an object."""
    content = _content(path).removeprefix(codecs.BOM_UTF8)
    try:
        value = orjson.loads(content)
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, list):
        return (Request(name=path.name, body=content),)
    return _joined([_Line(number, each) for number, each in enumerate(value)], rows, "instance")


def _json_lines(path: Path) -> list[_Line]:
    lines, bad = [], []
    for number, text in enumerate(_content(path).removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            value = orjson.loads(text)
        except ValueError as error:
            bad.append(f"line {number}: no JSON ({error})")
            continue
        if isinstance(value, Mapping) and "instances" in value and not _is_body(value):
            bad.append(f'line {number}: "instances" is no list')
        lines.append(_Line(number, value, _is_body(value)))
    _refuse(path, bad)
    return lines


def _csv_lines(path: Path) -> list[_Line]:
    """As batch prediction reads it: a header, then arrays; a cell without quotes is a number ("instancesFormat")."""
    content = _content(path).decode("utf-8-sig", errors="replace")
    text = io.StringIO(content, newline="")
    limit = csv.field_size_limit(max(len(content), 1))  # a picture in base64 is longer than csv's own limit
    try:
        return _csv_rows(path, text)
    finally:
        csv.field_size_limit(limit)


def _csv_rows(path: Path, text: io.StringIO) -> list[_Line]:
    header = next(csv.reader(text), None)
    if header is None:
        raise UsageError(f"{path} is empty; its first line is a header")
    lines, bad = [], []
    for number, row in _cells(text):
        if isinstance(row, str):
            bad.append(f"line {number}: {row}")
        elif row and len(row) != len(header):
            bad.append(f"line {number}: {len(row)} cells, and the header has {len(header)}")
        elif row:
            lines.append(_Line(number, row))
    _refuse(path, bad)
    return lines


def _cells(text: io.StringIO) -> Iterator[tuple[int, list[Any] | str]]:
    """Each row with the number of its line; words where it is none."""
    reader = csv.reader(text, quoting=csv.QUOTE_NONNUMERIC)
    while True:
        try:
            row: list[Any] = next(reader)
        except StopIteration:
            return
        except ValueError as error:
            found = str(error).rpartition(": ")[2].strip("'")
            yield reader.line_num + 1, f'"{found}" is no number; a text stands in double quotes'
        except csv.Error as error:
            yield reader.line_num + 1, str(error)
        else:
            strange = next((each for each in row if isinstance(each, float) and not math.isfinite(each)), None)
            words = f'"{strange}" is no number that JSON has; put it in double quotes where it is a text'
            yield reader.line_num + 1, row if strange is None else words


def _joined(lines: Sequence[_Line], rows: int, noun: str = "line") -> tuple[Request, ...]:
    """Each body alone; neighbouring instances together, `rows` at most."""
    if rows < 1:
        raise UsageError(f"{rows} instances a request cannot be; give 1 or more")
    made: list[Request] = []
    waiting: list[_Line] = []

    def send() -> None:
        if waiting:
            names = tuple(f"{noun} {line.number}" for line in waiting)
            body, _ = client.encode({"instances": [line.value for line in waiting]})
            name = names[0] if len(names) == 1 else f"{noun}s {waiting[0].number}-{waiting[-1].number}"
            made.append(Request(name=name, body=body, instances=names))
            waiting.clear()

    for line in lines:
        if line.is_body:
            send()
            made.append(Request(name=f"{noun} {line.number}", body=client.encode(line.value)[0]))
            continue
        waiting.append(line)
        if len(waiting) == rows:
            send()
    send()
    return tuple(made)


def _is_body(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("instances"), list)


def _refuse(path: Path, bad: Sequence[str]) -> None:
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        lines = "1 bad line" if len(bad) == 1 else f"{len(bad)} bad lines"
        raise UsageError(f"{path} has {lines}, and nothing was asked: {'; '.join(bad[:_SHOWN])}{more}")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
