"""MessagePack, with the msgpack library. It checks every length against the body before it allocates."""

from __future__ import annotations

from typing import Any

from cpr_kit.errors import RequestError
from cpr_kit.runtime.codecs.codec import Body, Wants, check_depth, rectangle
from cpr_kit.runtime.codecs.json import plain
from cpr_kit.runtime.codecs.media import Media


def decode(body: bytes | bytearray, _: Media, wants: Wants) -> Any:
    """Any value, a map as a Body; timestamps are seconds. Raises RequestError, also for extension types."""
    import msgpack

    try:
        value = msgpack.unpackb(body, ext_hook=_refuse, timestamp=1)
    except (ValueError, OverflowError, RecursionError) as error:
        # The library's own words are about its limits, which are the body's length.
        raise RequestError("the body is not MessagePack, or is cut off, or goes on after its end") from error
    check_depth(value)
    if not isinstance(value, dict):
        return value
    array = rectangle(value.get("instances")) if wants.array else None
    return Body(value) if array is None else Body(value, instances=array)


def encode(value: Any) -> bytes:
    import msgpack

    packed: bytes = msgpack.packb(value, default=plain)
    return packed


def _refuse(code: int, _: memoryview) -> Any:
    raise RequestError(f"extension type {code} of MessagePack is not read")
