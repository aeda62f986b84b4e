"""How a handler reads requests and writes responses: the author's interface, and JSON as its shipped implementation.

The formats themselves, JSON among them, are in cpr_kit/runtime/codecs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from cpr_kit.errors import RequestError
from cpr_kit.runtime.codecs import json
from cpr_kit.runtime.codecs.codec import Body, Wants
from cpr_kit.runtime.codecs.json import JSON, dumps
from cpr_kit.runtime.codecs.media import Media, accepts, media_type, shown

__all__ = ["JSON", "Body", "DefaultSerializer", "Serializer", "accepts", "dumps", "media_type"]

_PLAIN, _LISTS = Media(JSON), Wants()


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


class DefaultSerializer(Serializer):
    """JSON in UTF-8 both ways."""

    @staticmethod
    def deserialize(data: Any, content_type: str | None) -> Any:
        """Raises RequestError 415 for another content type, 400 for what is not JSON."""
        if media_type(content_type) != JSON:
            given = f"Content-Type {shown(media_type(content_type))}" if content_type else "no Content-Type"
            raise RequestError(f"the request has {given}; this model reads {JSON}", 415)
        return json.decode(data.encode() if isinstance(data, str) else data, _PLAIN, _LISTS)

    @staticmethod
    def serialize(prediction: Any, accept: str | None) -> bytes:
        """Raises RequestError 406 when the caller does not take JSON, TypeError when the value is none."""
        if not accepts(accept, JSON):
            raise RequestError(f"the request accepts {shown(accept or '')}; this model answers {JSON}", 406)
        return dumps(prediction)
