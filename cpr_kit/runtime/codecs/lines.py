"""JSON lines: an instance a line in, a prediction a line out."""

from __future__ import annotations

from typing import Any

from cpr_kit.errors import RequestError
from cpr_kit.runtime.codecs import json
from cpr_kit.runtime.codecs.codec import Body, Wants, prepared, rows_of
from cpr_kit.runtime.codecs.media import Media


def decode(body: bytes | bytearray, _: Media, wants: Wants) -> Body:
    """Empty lines are passed over. Raises RequestError naming the line that is no JSON."""
    rows = []
    for number, line in enumerate(bytes(body).split(b"\n"), 1):
        if not line or line.isspace():
            continue
        try:
            rows.append(json.parse(line))
        except RequestError as error:
            raise RequestError(f"line {number}: {error.message}") from error
    if not rows:
        raise RequestError("the body is empty; one JSON value a line is wanted")
    return prepared(rows, wants)


def encode(value: Any) -> bytes:
    return b"".join(json.dumps(row) + b"\n" for row in rows_of(value))
