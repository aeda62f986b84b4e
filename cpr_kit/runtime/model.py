"""The author's handler from its name to its answers, loaded and called in the model's thread."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from cpr_kit.errors import CprError, StartError
from cpr_kit.runtime import metrics, startup, trace, warmup
from cpr_kit.runtime.admission import ServiceTime
from cpr_kit.runtime.handler import PredictionHandler
from cpr_kit.runtime.importer import load_class, place, told
from cpr_kit.runtime.pipeline import Joined, Pipeline
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.steps import Call, Reply, Steps
from cpr_kit.runtime.streaming import Stream
from cpr_kit.runtime.thread import ModelThread, called, crossed


class State(enum.Enum):
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"


class Model:
    """What a server serves. `handler` is duck-typed, so handlers of upstream's classes serve as well."""

    def __init__(
        self, make: Callable[[], Any], settings: Settings | None = None, counted: metrics.Metrics | None = None
    ) -> None:
        self.state = State.LOADING
        self.thread = ModelThread()
        self.service = ServiceTime()
        self.metrics = counted or metrics.Off()
        self._make = make
        self._settings = settings or Settings()
        self._handler: Any = None
        self._pipeline: Pipeline | None = None

    @classmethod
    def from_settings(cls, settings: Settings, counted: metrics.Metrics | None = None) -> Model:
        return cls(lambda: make_handler(settings), settings, counted)

    async def load(self) -> None:
        """Load and warm up. Raises StartError, whatever the author's code raised."""

        async def make() -> Any:
            return self._make()

        began = time.monotonic()
        try:
            self._handler = await self.thread.run(make)
            if getattr(type(self._handler), "handle", None) is PredictionHandler.handle:
                self._pipeline = self._piped(self._handler)
            with startup.phase("warm-up"):
                await warmup.run(self, self._settings)
        except BaseException:
            self.state = State.FAILED
            raise
        self.metrics.loaded(time.monotonic() - began)
        self.state = State.READY

    async def close(self) -> None:
        """A server calls this when all that it accepted is answered. A model ends with its process."""

    def _piped(self, handler: Any) -> Pipeline:
        predictor, settings = handler._predictor, self._settings  # noqa: SLF001  the kit's own class
        joined = Joined(
            settings.max_batch_rows or getattr(predictor, "max_batch_rows", None) or 1,
            settings.max_batch_delay or getattr(predictor, "max_batch_delay", 0.0),
        )
        steps = Steps(predictor, handler.serializer)
        return Pipeline(steps, self.thread, joined=joined, service=self.service, counted=self.metrics)

    @property
    def reads_whole_requests(self) -> bool:
        """Whether `predict` serves it, rather than a `handle` of the author's own."""
        return self._pipeline is not None

    async def predict(self, call: Call) -> Reply | Stream:
        """Raises whatever the author's code raised."""
        assert self._pipeline is not None
        return await self._pipeline.answer(call)

    def submit(self, call: Call) -> None:
        """As `predict`, without waiting: the call's `settle` is called."""
        assert self._pipeline is not None
        self._pipeline.submit(call)

    def abandon(self, call: Call) -> None:
        assert self._pipeline is not None
        self._pipeline.abandon(call)

    async def handle(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> Response | None:
        """Let the author's handler answer a request whose body has been read; None when it has sent the answer itself.

        Raises whatever the handler raised.
        """
        here = asyncio.get_running_loop()
        traced = trace.current.get()

        async def handle() -> Response | None:
            trace.current.set(traced)
            began = time.perf_counter()
            request = Request(scope, _replay(body, receive, here))
            response = await called(self._handler.handle, request)
            if not isinstance(response, Response):
                raise TypeError(
                    f"{type(self._handler).__name__}.handle returned a {type(response).__name__}; return a Response"
                )
            if not asyncio.iscoroutinefunction(self._handler.handle):
                here.call_soon_threadsafe(self.service.observe, 1, time.perf_counter() - began)
            if _is_whole(response):
                return response
            await response(scope, request.receive, _sender(send, here))
            return None

        response = await self.thread.run(handle)
        if response is not None:
            _type(response)
        return response


def make_handler(settings: Settings) -> Any:
    """Import the author's classes and load the model. Raises StartError with the cause and a remedy."""
    predictor = load_class(settings.predictor) if settings.predictor else None
    handler = load_class(settings.handler) if settings.handler else PredictionHandler
    if predictor is None and settings.handler is None:
        raise StartError(
            "neither PREDICTOR_MODULE and PREDICTOR_CLASS nor HANDLER_MODULE and HANDLER_CLASS are set",
            'name a class in cpr.toml: predictor = "module:Class"',
        )
    return made_handler(handler, predictor, settings.serving.storage_uri)


def made_handler(handler: type[Any], predictor: type[Any] | None, artifacts_uri: str) -> Any:
    """Make the handler, which loads the model. Raises StartError, whatever the author's code raised."""
    try:
        with startup.phase("load"):
            return handler(artifacts_uri, predictor=predictor)
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
    """Vertex AI's clients expect a typed response; a handler may leave the type out, or repeat what they accept."""
    if "*" in response.headers.get("content-type", "*"):
        is_json = bytes(response.body[:1]) in (b"{", b"[")
        response.headers["content-type"] = "application/json" if is_json else "application/octet-stream"
