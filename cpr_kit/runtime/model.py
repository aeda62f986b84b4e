"""The author's handler from its name to its answers, loaded and called in the model's thread."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from cpr_kit.errors import CprError, StartError
from cpr_kit.runtime.handler import PredictionHandler, finished
from cpr_kit.runtime.importer import load_class, place, told
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.thread import ModelThread, crossed


class State(enum.Enum):
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Model:
    """What a server serves. `handler` is duck-typed, so handlers of upstream's classes serve as well."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.state = State.LOADING
        self._make = make
        self._handler: Any = None
        self._thread = ModelThread()

    @classmethod
    def from_settings(cls, settings: Settings) -> Model:
        return cls(lambda: make_handler(settings))

    async def load(self) -> None:
        """Raises StartError, whatever the author's code raised."""

        async def make() -> Any:
            return self._make()

        try:
            self._handler = await self._thread.run(make)
        except BaseException:
            self.state = State.FAILED
            raise
        self.state = State.READY

    async def answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Let the handler answer a request whose body has been read. Raises whatever the handler raised."""
        here = asyncio.get_running_loop()

        async def handle() -> Response | None:
            request = Request(scope, _replay(body, receive, here))
            response = await finished(self._handler.handle(request))
            if not isinstance(response, Response):
                raise TypeError(
                    f"{type(self._handler).__name__}.handle returned a {type(response).__name__}; return a Response"
                )
            if _is_whole(response):
                return response
            await response(scope, request.receive, _sender(send, here))
            return None

        response = await self._thread.run(handle)
        if response is not None:
            _type(response)
            await response(scope, receive, send)


def make_handler(settings: Settings) -> Any:
    """Import the author's classes and load the model. Raises StartError with the cause and a remedy."""
    predictor = load_class(settings.predictor) if settings.predictor else None
    handler = load_class(settings.handler) if settings.handler else PredictionHandler
    if predictor is None and settings.handler is None:
        raise StartError(
            "neither PREDICTOR_MODULE and PREDICTOR_CLASS nor HANDLER_MODULE and HANDLER_CLASS are set",
            'name a class in cpr.toml: predictor = "module:Class"',
        )
    try:
        return handler(settings.serving.storage_uri, predictor=predictor)
    except CprError:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        name = (predictor or handler).__name__
        raise StartError(f"{name} could not be loaded: {told(error)} ({place(error)})", _remedy(error)) from error


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f'add the distribution that brings "{error.name}" to requirements.txt and build again'
    if isinstance(error, PermissionError):
        return "the container's user is no owner of yours: make the artifacts readable with chmod -R a+rX FOLDER"
    if isinstance(error, FileNotFoundError):
        return "put the file among the artifacts, and look for it under artifacts_uri"
    return "mend that line; its traceback is above"


def _replay(body: bytes, receive: Receive, loop: asyncio.AbstractEventLoop) -> Receive:
    """A `receive` for the model's thread: the body once, and then what the connection says, its end above all."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return messages.pop() if messages else await crossed(receive, loop)

    return received


def _sender(send: Send, loop: asyncio.AbstractEventLoop) -> Send:
    """`send` for a response that is made piece by piece in the model's thread."""

    async def sent(message: Message) -> None:
        await crossed(lambda: send(message), loop)

    return sent


def _is_whole(response: Response) -> bool:
    """Whether all of it is there, so that the server's loop may send it without calling the author's code."""
    return type(response).__call__ is Response.__call__ and response.background is None


def _type(response: Response) -> None:
    """Vertex AI's clients expect a typed response; a handler may have left the type out."""
    if "content-type" not in response.headers:
        is_json = bytes(response.body[:1]) in (b"{", b"[")
        response.headers["content-type"] = "application/json" if is_json else "application/octet-stream"
