"""Upstream's servers, both eras', over the kit's."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cpr_kit.runtime import server
from cpr_kit.runtime.model import make_handler
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.thread import called
from cpr_kit.runtime.workers import count

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

logger = logging.getLogger("cpr_kit")

_SERVING = ("AIP_HTTP_PORT", "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE")
_HANDLER = ("HANDLER_MODULE", "HANDLER_CLASS")


class ModelServer(server.ModelServer):
    """For an entry point of one's own, as samples of 2022 have it.

    >>> ModelServer(CprHandler(os.environ["AIP_STORAGE_URI"], predictor=CprPredictor)).start()
    """

    def __init__(self, handler: Any) -> None:
        _check(os.environ, _SERVING)
        super().__init__(handler)
        self.handler = handler

    def health(self) -> dict[str, Any]:
        return {}

    async def predict(self, request: Request) -> Response:
        response: Response = await called(self.handler.handle, request)
        return response


class CprModelServer(ModelServer):
    """An ASGI application made from the environment, for `uvicorn --factory` and the like. It loads as it is made."""

    def __init__(self) -> None:
        _check(os.environ, (*_HANDLER, *_SERVING))
        super().__init__(make_handler(Settings.from_environ()))
        self._ready: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # There is nothing left to load, but the model's thread takes it up, and warms it up, on the server's loop.
        if self._ready is None:
            self._ready = asyncio.ensure_future(self.app.model.load())
        await asyncio.shield(self._ready)
        await self.app(scope, receive, send)


def set_number_of_workers_from_env() -> None:
    """WEB_CONCURRENCY as VERTEX_CPR_* say, over the processors that this container really has."""
    os.environ["WEB_CONCURRENCY"] = str(count.workers(os.environ, count.cores()))
    logger.info("the number of model server workers is %s", os.environ["WEB_CONCURRENCY"])


def _check(environ: Mapping[str, str], names: tuple[str, ...]) -> None:
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise ValueError(
            f"The environment variables {', '.join(missing)} need to be specified. Vertex AI sets AIP_*, and so does "
            "`cpr run`; HANDLER_* are what the image says."
        )
