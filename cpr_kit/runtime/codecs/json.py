"""JSON both ways: values through orjson, numbers for arrays straight from the text through simdjson."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import orjson

from cpr_kit.errors import RequestError
from cpr_kit.runtime.codecs.codec import MAX_DEPTH, Body, Wants, check_depth, rectangle, too_deep
from cpr_kit.runtime.codecs.media import Media

JSON = "application/json"

_BOM = b"\xef\xbb\xbf"
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# simdjson's parser keeps its memory, up to 15 times a body; this bounds what a big one leaves behind.
_KEPT = 1 << 20
# From here on numpy counts bytes faster than bytes.count, which looks at one at a time.
_LONG = 4096
_OPENER = 0x5B
# Bytes between two brackets from which on `find`, which runs at memory speed, is faster than either.
_FAR = 256

_thread = threading.local()


def decode(body: bytes | bytearray, _: Media, wants: Wants) -> Any:
    """Any JSON value; an object as a Body. Raises RequestError with the place of what is no JSON."""
    if wants.array:
        try:
            read = _thread.read
        except AttributeError:
            read = _thread.read = _reader()
        request = read(body)
        if request is not None:
            return request
    value = parse(body)
    if type(value) is not dict:
        return value
    if wants.array:
        array = rectangle(value.get("instances"))
        if array is not None:
            value["instances"] = array
    return Body(value)


def parse(body: bytes | bytearray) -> Any:
    """The value of a JSON text: UTF-8, a BOM is passed over, of equal keys the last counts.

    Raises RequestError 400, also for NaN, for numbers beyond float64, and for nesting deeper than MAX_DEPTH.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if body.startswith(_BOM):
            return parse(body[3:])
        raise _broken(body, error) from error
    if _many_openers(body):
        check_depth(value)
    return value


def dumps(value: Any) -> bytes:
    """JSON of plain and numpy values. Raises TypeError naming the type that has no JSON form."""
    try:
        return orjson.dumps(value, default=plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        # Keys other than text, and arrays in foreign byte order, are rare and make every call slower: tried second.
        try:
            return orjson.dumps(value, default=plain, option=orjson.OPT_NON_STR_KEYS)
        except TypeError as error:
            if "64-bit" not in str(error):
                raise
            # JSON has integers of any size, and a caller's own may have become one; orjson has not.
            import json

            return json.dumps(value, default=plain, separators=(",", ":"), allow_nan=False).encode()


def plain(value: Any) -> Any:
    """What orjson does not know: strided arrays, arrays of text, tensors, sets."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"a prediction of type {type(value).__module__}.{type(value).__qualname__} has no JSON form")


encode = dumps


def _reader() -> Callable[[bytes | bytearray], Body | None]:
    """A reader for this thread; one that always declines where simdjson is not installed."""
    try:
        return ArrayReader().read
    except ImportError:
        return lambda _: None


class ArrayReader:
    """`{"instances": [[1, 2], ...], ...}` to an array without a Python object for each number.

    One for each thread, because a parser holds one document. It declines (None) whatever it cannot prove to be
    flat, equally long rows of numbers; the plain way then decides and finds the words for what is wrong.
    """

    def __init__(self) -> None:
        import numpy as np
        import simdjson

        self._np, self._simdjson = np, simdjson
        self._float64 = np.dtype(np.float64)
        self._parse = simdjson.Parser().parse

    def read(self, body: bytes | bytearray) -> Body | None:
        try:
            return self._read(body)
        except (ValueError, TypeError, LookupError, AttributeError):
            return None
        except RuntimeError:
            # Among others: a document of an earlier call is still alive, which bars its parser for good.
            self._parse = self._simdjson.Parser().parse
            return None
        finally:
            if len(body) > _KEPT:
                self._parse = self._simdjson.Parser().parse

    def _read(self, body: bytes | bytearray) -> Body | None:
        document: Any = self._parse(body)
        rows = document["instances"]
        buffer = rows.as_buffer(of_type="d")  # a TypeError for anything in it but numbers and arrays
        count = len(rows)
        width = len(rows[0])  # a TypeError for a row that is a number, here and below
        if count > 1 and set(map(len, rows)) != {width}:
            return None
        # As many brackets as rows, and one around them: so no row holds an array, which as_buffer would flatten,
        # and nor does anything beside the instances.
        if not width or buffer.size != 8 * count * width or self._openers(body, count + 1) != count + 1:
            return None
        array = self._np.ndarray((count, width), self._float64, buffer)
        return Body(instances=array) if len(document) == 1 else self._beside(document, array, body)

    def _openers(self, body: bytes | bytearray, most: int) -> int:
        """How many brackets open, counted no further than one more than `most`."""
        if len(body) < _LONG:
            return body.count(b"[")
        if len(body) > _FAR * most:
            return openers(body, b"[", most)
        np = self._np
        return int(np.count_nonzero(np.frombuffer(body, np.uint8) == _OPENER))

    def _beside(self, document: Any, array: Any, body: bytes | bytearray) -> Body | None:
        """The other members, such as "parameters"; simdjson finds the first of equal keys, JSON's readers the last."""
        names = list(document)
        request = Body((name, None) for name in names)
        if len(request) != len(names):
            return None
        for name in names:
            value = array if name == "instances" else document[name]
            request[name] = value.as_dict() if isinstance(value, self._simdjson.Object) else value
        if _many_openers(body):
            check_depth({name: value for name, value in request.items() if name != "instances"})
        return request


def _many_openers(body: bytes | bytearray) -> bool:
    """Whether the body could nest deeper than MAX_DEPTH. `find` runs at memory speed, and stops early."""
    if len(body) <= 2 * MAX_DEPTH:
        return False
    return openers(body, b"[", MAX_DEPTH) + openers(body, b"{", MAX_DEPTH) > MAX_DEPTH


def openers(body: bytes | bytearray, opener: bytes, most: int) -> int:
    """How often `opener` is there, counted no further than one more than `most`."""
    found, place = 0, body.find(opener)
    while place >= 0 and found <= most:
        found += 1
        place = body.find(opener, place + 1)
    return found


def _broken(body: bytes | bytearray, error: orjson.JSONDecodeError) -> RequestError:
    if not body.strip():
        return RequestError("the body is empty; JSON is wanted")
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return RequestError(f"the body is not UTF-8: byte {wrong.start} is wrong")
    if _open_brackets(error.doc[: error.pos + 1].encode()) > MAX_DEPTH:
        return too_deep()
    return RequestError(f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}")


def _open_brackets(text: bytes) -> int:
    """How many are open at the end of `text`; more than MAX_DEPTH also when deeper ones are closed again."""
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        shorter = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if shorter == brackets:
            break
        brackets = shorter
    return len(brackets)
