"""Content-Encoding: gzip both ways, with a hard limit on what comes out."""

from __future__ import annotations

import functools
import zlib

from cpr_kit.errors import RequestError
from cpr_kit.runtime.codecs.media import qualities, shown

_GZIP = 31  # zlib's window bits for gzip's frame
# Level 1 is a third of level 6's time for a tenth more bytes, and the time is the model's.
_LEVEL = 1
_LEAST = 1024
_SAMPLE = 1 << 14
_WORTH = 0.7
# A file of many empty members is as small as it is slow to read; who streams gzip sends one or a few.
_MAX_MEMBERS = 16


def inflate(body: bytes, encoding: str | None, limit: int) -> bytes:
    """The body as it was before `encoding`. Raises RequestError: 413 when it is larger than `limit` bytes,
    400 when it is damaged or cut off, 415 for an encoding other than gzip.
    """
    name = (encoding or "").strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip"):
        raise RequestError(f"Content-Encoding {shown(name)} is not read here; send gzip, or the body as it is", 415)
    parts, room = [], limit
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(_GZIP)
        try:
            parts.append(member.decompress(body, room + 1))
        except zlib.error as error:
            raise RequestError("the body is not gzip, as its Content-Encoding says") from error
        room -= len(parts[-1])
        if room < 0:
            raise RequestError(f"the body is larger than {limit} bytes when unpacked", 413)
        if not member.eof:
            raise RequestError("the gzip body is cut off")
        body = member.unused_data
        if not body:
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise RequestError(f"the gzip body has more than {_MAX_MEMBERS} members")


def deflate(body: bytes, accept_encoding: str | None) -> tuple[bytes, str | None]:
    """The body and its Content-Encoding: gzip when the client takes it and it pays, else the body and None."""
    if len(body) <= _LEAST or not accept_encoding or not _takes_gzip(accept_encoding):
        return body, None
    # Floats as bytes, images and the like hardly shrink, which a piece of them shows for little.
    if len(body) > 2 * _SAMPLE and len(_pack(body[:_SAMPLE])) > _WORTH * _SAMPLE:
        return body, None
    packed = _pack(body)
    return (packed, "gzip") if len(packed) < _WORTH * len(body) else (body, None)


def _pack(body: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()


@functools.lru_cache(maxsize=64)
def _takes_gzip(header: str) -> bool:
    ranges = qualities(header)
    gzip = ranges.get("gzip", ranges.get("x-gzip", ranges.get("*", 0.0)))
    # The identity needs no mention; mentioned, it may be what the client would rather have.
    return gzip > 0 and gzip >= ranges.get("identity", 0.0)
