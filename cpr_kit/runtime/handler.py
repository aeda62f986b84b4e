"""From a request to a response: the shipped handler runs a predictor; an author's handler does what it likes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from cpr_kit.runtime.predictor import Predictor

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from cpr_kit.runtime.serializer import Serializer


class Handler(ABC):
    """Subclass this to read requests and write responses yourself; `handle` may be sync or async.

    `predictor` is a class; it is made and loaded here. Requests and responses are Starlette's, which
    are FastAPI's own.
    """

    def __init__(self, artifacts_uri: str, predictor: type[Predictor] | None = None) -> None:
        self.artifacts_uri = artifacts_uri
        self._predictor: Any = None
        if predictor is not None:
            self._predictor = predictor()
            self._predictor.load(artifacts_uri)

    @abstractmethod
    def handle(self, request: Request) -> Response | Awaitable[Response]: ...


class PredictionHandler(Handler):
    """Decode, preprocess, predict, postprocess, encode. Raises ValueError when there is no predictor."""

    serializer: type[Serializer] | None = None
    """Set this in a subclass to read and write something else than JSON."""

    def __init__(self, artifacts_uri: str, predictor: type[Predictor] | None = None) -> None:
        if predictor is None:
            raise ValueError("PredictionHandler needs a predictor class")
        super().__init__(artifacts_uri, predictor)

    async def handle(self, request: Request) -> Response:
        from starlette.responses import Response

        from cpr_kit.runtime.serializer import DefaultSerializer, media_type

        serializer = self.serializer or DefaultSerializer
        body = await request.body()
        value = serializer.deserialize(body, media_type(request.headers.get("content-type")))
        for step in (self._predictor.preprocess, self._predictor.predict, self._predictor.postprocess):
            value = await finished(step(value))
        content = serializer.serialize(value, request.headers.get("accept"))
        return Response(content, media_type=getattr(serializer, "media_type", "application/json"))


async def finished(value: Any) -> Any:
    """The value of a call that may have been async."""
    return await value if isinstance(value, Awaitable) else value
