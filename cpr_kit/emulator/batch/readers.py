"""The formats of a batch job's input: one generator each, from an open file to its rows.

The rules are those of "Get batch predictions from a custom trained model", "Input data requirements".
Rows stream: no reader holds more than one row. A row that breaks the rules comes out as `Bad` and the
reader goes on; a file that cannot be read further ends with `BrokenFile`.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from cpr_kit.emulator.batch.rows import Bad, BadRow, InstanceConfig, Row, decode, encode
from cpr_kit.emulator.batch.tfrecord import Example, b64
from cpr_kit.emulator.errors import ApiError
from cpr_kit.tfrecord import BrokenFile, records


@dataclass(frozen=True, kw_only=True)
class Source:
    """One input file."""

    uri: str
    file: BinaryIO
    config: InstanceConfig
    fetch: Callable[[str], bytes]
    """Reads a whole object, for the files that a file-list names."""


Reader = Callable[[Source], Iterator[Row | Bad]]


def jsonl(source: Source) -> Iterator[Row | Bad]:
    """The line's JSON value as it is. Blank lines are passed over."""
    for number, line in _lines(source.file):
        try:
            yield source.config.row(decode(line))
        except BadRow as bad:
            yield bad.at(f"{source.uri}:{number}")


def csv_lines(source: Source) -> Iterator[Row | Bad]:
    """An array in the order of the columns. Unquoted cells are floats; no cell has a newline in it.

    A cell with nothing in it is an empty string, quoted or not (UNCONFIRMED: Python's csv has it so).
    """
    lines = _lines(source.file)
    table = Table(_header(next(lines, None)), source.config)
    for number, line in lines:
        try:
            yield table.row(line)
        except BadRow as bad:
            yield bad.at(f"{source.uri}:{number}")


def file_list(source: Source) -> Iterator[Row | Bad]:
    """Each line names a file, whose bytes are the instance; the output shows the name."""
    for number, line in _lines(source.file):
        try:
            yield _listed(line, source.fetch)
        except BadRow as bad:
            yield bad.at(f"{source.uri}:{number}")
        except (ApiError, OSError) as error:
            message = "A file of the file list could not be read."
            where = f"{source.uri}:{number}"
            yield Bad(message=message, where=where, detail=f"{_text(line)}: {error}", unread=True)


def tf_record(source: Source) -> Iterator[Row | Bad]:
    """Each record in Base64."""
    for number, record in enumerate(records(source.file), 1):
        try:
            yield _record(record, source.config)
        except BadRow as bad:
            yield bad.at(f"{source.uri}, record {number}")


def tf_record_gzip(source: Source) -> Iterator[Row | Bad]:
    with gzip.GzipFile(fileobj=source.file) as file:
        unpacked = Source(uri=source.uri, file=cast("BinaryIO", file), config=source.config, fetch=source.fetch)
        try:
            yield from tf_record(unpacked)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BrokenFile(f"The file is not a whole gzip file: {error}.") from None


class Table:
    """The columns of one csv file, and where instanceConfig puts them."""

    def __init__(self, header: list[str], config: InstanceConfig) -> None:
        self.header = header
        self._config = config
        named = (*config.included, *config.excluded, *([config.key] if config.key else []))
        if lacking := [name for name in named if name not in header]:
            raise BrokenFile("The header lacks columns that instanceConfig names: " + ", ".join(lacking) + ".")
        # By position, not by name: two columns may have the same name, and both reach the container.
        kept = [index for index, name in enumerate(header) if config.keeps(name)]
        if config.included:
            kept.sort(key=lambda index: config.included.index(header[index]))
        self._kept = kept
        self._columns = tuple(header[index] for index in kept)

    def row(self, line: bytes) -> Row:
        cells = self._cells(line)
        instance = [cells[index] for index in self._kept]
        fields = dict(zip(self.header, cells, strict=True))
        return Row(
            instance=encode(instance),
            key=self._config.key_of(fields),
            attached=self._config.attached(fields),
            columns=self._columns,
            cells=tuple(instance),
        )

    def _cells(self, line: bytes) -> list[Any]:
        cells = _cells(line, csv.QUOTE_NONNUMERIC)
        if len(cells) != len(self.header):
            raise BadRow(f"The row has {len(cells)} cells, and the header {len(self.header)}.")
        return cells


def _header(line: tuple[int, bytes] | None) -> list[str]:
    if line is None:
        raise BrokenFile("The csv file has no header line.")
    try:
        # Spreadsheets put a byte order mark before it.
        return _cells(line[1].removeprefix(b"\xef\xbb\xbf"), csv.QUOTE_MINIMAL)
    except BadRow as bad:
        raise BrokenFile(f"The csv file's header cannot be read: {bad.message} {bad.detail}".rstrip()) from None


def _cells(line: bytes, quoting: Any) -> list[Any]:
    try:
        # Of one line alone: a quoted newline, which Vertex AI does not take, is then an unfinished cell.
        return next(csv.reader([line.decode()], quoting=quoting, strict=True))
    except UnicodeDecodeError:
        raise BadRow("The row is not UTF-8.") from None
    except ValueError as error:
        message = "A cell without quotes is not a number; strings must be in double quotes."
        raise BadRow(message, f"({error})") from None
    except csv.Error as error:
        raise BadRow("The row is not csv.", f"({error})") from None


def _listed(line: bytes, fetch: Callable[[str], bytes]) -> Row:
    uri = _text(line)
    if not uri.startswith("gs://"):
        raise BadRow("A line of the file list is no gs:// URI.", f"({uri})")
    return Row(instance=encode(b64(fetch(uri))), shown=encode(uri))


def _record(record: bytes, config: InstanceConfig) -> Row:
    if not config.names_fields:
        return Row(instance=encode(b64(record)))
    example = Example(record)
    dropped = [name for name in example.fields if not config.keeps(name)]
    return Row(
        instance=encode(b64(example.without(dropped))),
        key=config.key_of(example.fields),
        attached=config.attached(example.fields),
    )


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers."""
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, line.rstrip(b"\r\n")


def _text(line: bytes) -> str:
    return line.decode(errors="backslashreplace").strip()


@dataclass(frozen=True, kw_only=True)
class Format:
    read: Reader
    shared: bool
    """Several workers may take rows of one file; the others are split by file only."""


FORMATS = {
    "jsonl": Format(read=jsonl, shared=True),
    "csv": Format(read=csv_lines, shared=False),
    "file-list": Format(read=file_list, shared=True),
    "tf-record": Format(read=tf_record, shared=False),
    "tf-record-gzip": Format(read=tf_record_gzip, shared=False),
}
