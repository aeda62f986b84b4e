"""Bytes to values and back, chosen by content type. JSON here; numpy values are JSON too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import orjson

from cpr_kit.errors import MissingField, RequestError

JSON = "application/json"


class Serializer(ABC):
    """How a handler reads requests and writes responses. Both methods are static, as upstream has them."""

    media_type = JSON
    """The Content-Type of what `serialize` returns."""

    @staticmethod
    @abstractmethod
    def deserialize(data: Any, content_type: str | None) -> Any:
        """The request's body. `content_type` comes in lower case and without parameters."""

    @staticmethod
    @abstractmethod
    def serialize(prediction: Any, accept: str | None) -> Any:
        """The response's body, as bytes or str."""


class Body(dict[str, Any]):
    """A JSON object from a request. A key that is not there is the caller's mistake, so it becomes a 400."""

    def __missing__(self, key: str) -> Any:
        raise MissingField(key)


class DefaultSerializer(Serializer):
    """JSON in UTF-8 both ways."""

    @staticmethod
    def deserialize(data: Any, content_type: str | None) -> Any:
        """Raises RequestError 415 for another content type, 400 for what is not JSON."""
        if media_type(content_type) != JSON:
            given = f'Content-Type "{media_type(content_type)}"' if content_type else "no Content-Type"
            raise RequestError(f"the request has {given}; this model reads {JSON}", 415)
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise RequestError(
                f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
            ) from error
        return Body(value) if isinstance(value, dict) else value

    @staticmethod
    def serialize(prediction: Any, accept: str | None) -> bytes:
        """Raises RequestError 406 when the caller does not take JSON, TypeError when the value is none."""
        if not accepts(accept, JSON):
            raise RequestError(f'the request accepts "{accept}"; this model answers {JSON}', 406)
        return dumps(prediction)


def dumps(value: Any) -> bytes:
    """JSON of plain and numpy values. Raises TypeError naming the type that has no JSON form."""
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        # Keys other than text, and arrays in foreign byte order, are rare and make every call slower: tried second.
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    """What orjson does not know: strided arrays, arrays of text, tensors, sets."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"a prediction of type {type(value).__module__}.{type(value).__qualname__} has no JSON form")


def media_type(header: str | None) -> str:
    """`Application/JSON; charset=utf-8` -> `application/json`."""
    return (header or "").partition(";")[0].strip().lower()


def accepts(header: str | None, offered: str) -> bool:
    """Whether an Accept header takes `offered` (RFC 9110, 12.5.1): the most specific range decides."""
    if not header or not header.strip():
        return True
    kind = offered.partition("/")[0]
    quality = {}
    for part in header.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality[media_range] = _quality(parameters)
    for media_range in (offered, f"{kind}/*", "*/*"):
        if media_range in quality:
            return quality[media_range] > 0
    return False


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
