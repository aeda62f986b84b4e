"""The one table of formats, and the four calls that a server makes: inflate, decode, encode, deflate."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import Any

from cpr_kit.errors import RequestError
from cpr_kit.runtime.codecs import json
from cpr_kit.runtime.codecs.codec import Body, Codec, Wants
from cpr_kit.runtime.codecs.compression import deflate, inflate
from cpr_kit.runtime.codecs.json import JSON
from cpr_kit.runtime.codecs.media import Media, accepts, best, parse, qualities, shown

__all__ = ["CODECS", "Wants", "decode", "deflate", "encode", "inflate"]

OCTETS = "application/octet-stream"

CODECS = (
    Codec(types=(JSON,), module="json"),
    Codec(types=("application/jsonl", "application/x-ndjson", "application/jsonlines"), module="lines"),
    Codec(types=("text/csv",), module="csv"),
    Codec(types=("application/x-npy",), module="npy"),
    Codec(types=("application/msgpack", "application/x-msgpack"), module="msgpack", library="msgpack"),
    Codec(types=("application/vnd.apache.arrow.stream",), module="arrow", library="pyarrow"),
)

_BY_TYPE = {name: codec for codec in CODECS for name in codec.types}
_JSON = Media(JSON)
_UTF8 = ("", "utf-8", "utf8", "us-ascii")


def decode(body: bytes | bytearray, content_type: str | None, wants: Wants) -> Any:
    """The request: any value of JSON or MessagePack, an object as a Body; of the others {"instances": ...}.

    Raises RequestError: 415 for a type that is not read, 400 for a body that is not of its type.
    """
    if content_type == JSON:
        return json.decode(body, _JSON, wants)
    if not content_type or not content_type.strip():
        raise RequestError(f"the request has no Content-Type; this model reads {_readable(wants)}", 415)
    media = parse(content_type)
    codec = _BY_TYPE.get(media.type)
    if codec is None and media.type.endswith("+json"):
        codec = _BY_TYPE[JSON]
    if codec is None:
        if _is_allowed(media.type, wants.media_types):
            return Body(instances=[bytes(body)])
        raise RequestError(
            f"the request has Content-Type {shown(media.type)}; this model reads {_readable(wants)}", 415
        )
    if codec.library and not _is_installed(codec.library):
        raise RequestError(f"{media.type} needs {codec.library}, which is not installed in this server", 415)
    if media.charset not in _UTF8:
        raise RequestError(f"the charset {shown(media.charset)} is not read; send UTF-8", 415)
    return codec.decode(body, media, wants)


def encode(value: Any, accept: str | None) -> tuple[bytes, str]:
    """The body and its Content-Type: what `accept` likes best, JSON when it does not mind, bytes as they are.

    Raises RequestError 406 when it takes nothing that is written here, TypeError for a value without such a form.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), _raw_type(accept)
    if accept is None or accept in ("*/*", JSON) or not accept.strip():
        return json.encode(value), JSON
    chosen = _chosen(accept)
    if chosen is None:
        written = ", ".join(_offers())
        raise RequestError(f"the request accepts {shown(accept)}; this model answers {written}", 406)
    return _BY_TYPE[chosen].encode(value), chosen


@functools.lru_cache(maxsize=256)
def _chosen(accept: str) -> str | None:
    return best(accept, _offers())


@functools.cache
def _offers() -> tuple[str, ...]:
    return tuple(
        name for codec in CODECS if codec.library is None or _is_installed(codec.library) for name in codec.types
    )


@functools.cache
def _is_installed(library: str) -> bool:
    return find_spec(library) is not None


def _raw_type(accept: str | None) -> str:
    """Bytes of the author's are of whatever type the client named, an image for one; only they know better."""
    if accepts(accept, OCTETS):
        return OCTETS
    named = [name for name, quality in qualities(accept or "").items() if quality and "*" not in name]
    for name in named:
        if name not in _BY_TYPE and name.count("/") == 1:
            return name
    raise RequestError(f"the request accepts {shown(accept or '')}; this model answers {OCTETS}", 406)


def _is_allowed(kind: str, media_types: tuple[str, ...]) -> bool:
    return any(
        allowed in (kind, "*/*") or (allowed.endswith("/*") and kind.startswith(allowed[:-1]))
        for allowed in media_types
    )


def _readable(wants: Wants) -> str:
    return ", ".join((*(codec.types[0] for codec in CODECS if codec.types[0] in _offers()), *wants.media_types))
