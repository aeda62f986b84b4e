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
    """Decode, preprocess, predict, postprocess, encode. Raises ValueError when there is no predictor.

    The server runs these steps itself, joined for requests that wait together, unless a subclass has a
    `handle` of its own.
    """

    serializer: type[Serializer] | None = None
    """Set this in a subclass to read and write something else than what the kit's own codecs do."""

    def __init__(self, artifacts_uri: str, predictor: type[Predictor] | None = None) -> None:
        if predictor is None:
            raise ValueError("PredictionHandler needs a predictor class")
        super().__init__(artifacts_uri, predictor)

    async def handle(self, request: Request) -> Response:
        from cpr_kit.runtime import steps

        return await steps.respond(steps.Steps(self._predictor, self.serializer), request)
