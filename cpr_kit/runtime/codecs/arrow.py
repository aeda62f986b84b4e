"""Apache Arrow's IPC stream, with pyarrow: a row an instance, a column a feature.

What would take more memory than the body holds is refused before pyarrow reads it: compressed batches,
dictionaries, and columns without a buffer behind them.
"""

from __future__ import annotations

import struct
from typing import Any

from cpr_kit.errors import RequestError
from cpr_kit.runtime.codecs.codec import Body, Wants, ordered, predictions_of, prepared, rows_of
from cpr_kit.runtime.codecs.media import Media

# One bit a value is the least that a column takes, so a body may hold eight times its bytes.
_MAX_VALUES = 1 << 24
_HEADER, _COMPRESSION = 2, 3  # fields of Message and RecordBatch in Arrow's format/Message.fbs


def decode(body: bytes | bytearray, _: Media, wants: Wants) -> Body:
    """Rows as lists, nulls as null. Raises RequestError for what is no stream of plain numbers, booleans and text."""
    import pyarrow as pa

    try:
        _check_messages(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            _check_schema(reader.schema)
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, struct.error, ValueError, OverflowError) as error:
        # Arrow's own words quote the body's names and values.
        raise RequestError("the body is no readable Arrow IPC stream") from error
    if not table.num_rows:
        raise RequestError("the body holds no row")
    if table.num_rows * table.num_columns > _MAX_VALUES:
        raise RequestError(f"the body holds more than {_MAX_VALUES} values", 413)
    places = ordered(table.column_names, wants)
    table = table.select(places) if places is not None else table
    return _as_array(table) if wants.array else Body(instances=_rows(table))


def encode(value: Any) -> bytes:
    """Columns "0", "1", ... of rows, "predictions" of single values, their own names of objects."""
    import pyarrow as pa

    rows: Any = predictions_of(value)
    rows = rows if getattr(rows, "ndim", 0) == 2 else rows_of(value)  # noqa: PLR2004
    try:
        if hasattr(rows, "dtype"):
            table = pa.table({str(place): column for place, column in enumerate(rows.T)})
        elif rows and all(isinstance(row, dict) for row in rows):
            table = pa.Table.from_pylist(rows)
        elif rows and all(isinstance(row, (list, tuple)) for row in rows):
            table = pa.table({str(place): list(column) for place, column in enumerate(zip(*rows, strict=True))})
        else:
            table = pa.table({"predictions": rows})
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise TypeError("the predictions have no Arrow form: they are not of one type and length") from error
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _check_messages(body: bytes | bytearray) -> None:
    import pyarrow as pa

    for place, message in enumerate(pa.ipc.MessageReader.open_stream(pa.py_buffer(body))):
        if message.type != ("record batch" if place else "schema"):
            raise RequestError("the Arrow stream holds more than plain record batches; send plain columns")
        if place and _is_compressed(message.metadata.to_pybytes()):
            raise RequestError("the Arrow record batches are compressed; send them plain, or the body as gzip")


def _is_compressed(metadata: bytes) -> bool:
    (root,) = struct.unpack_from("<I", metadata, 0)
    field = _field(metadata, root, _HEADER)
    return bool(_field(metadata, field + struct.unpack_from("<I", metadata, field)[0], _COMPRESSION))


def _field(buffer: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffers table lies; 0 when the table does not have it."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", buffer, vtable)[0]:
        return 0
    (offset,) = struct.unpack_from("<H", buffer, vtable + slot)
    return table + offset if offset else 0


def _check_schema(schema: Any) -> None:
    from pyarrow import types

    if not len(schema):
        raise RequestError("the Arrow stream has no column")
    for place, kind in enumerate(schema.types):
        if not _is_number(kind) and not types.is_string(kind) and not types.is_large_string(kind):
            raise RequestError(f"column {place} holds neither numbers nor booleans nor text; nothing else is read")


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _as_array(table: Any) -> Body:
    """Numbers column by column into float64, nulls as NaN; rows with text as lists."""
    import numpy as np

    if not all(_is_number(kind) for kind in table.schema.types):
        return prepared(_rows(table), Wants(array=True))
    array = np.empty((table.num_rows, table.num_columns))
    for place, column in enumerate(table.columns):
        if column.null_count:
            array[:, place] = [np.nan if value is None else value for value in column.to_pylist()]
        else:
            array[:, place] = column.to_numpy()
    return Body(instances=array)


def _rows(table: Any) -> list[list[Any]]:
    return [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
