"""The ASGI application: health and predict, a deadline for each request, and one error handler around both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from cpr_kit.errors import RequestError
from cpr_kit.runtime import faults, trace
from cpr_kit.runtime.admission import Gate, Overloaded
from cpr_kit.runtime.direct import Direct
from cpr_kit.runtime.leash import Leash
from cpr_kit.runtime.model import Model, State
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.steps import Call, Reply
from cpr_kit.runtime.streaming import Stream
from cpr_kit.runtime.whole import Defaults

_NOT_READY = {
    State.LOADING: "the model is still loading",
    State.FAILED: "the model could not be loaded",
    State.DRAINING: "the server is stopping",
}
_MANY_PIECES = 256
_SERVES = (State.READY, State.DRAINING)


class App:
    """Serves one model on the routes of `settings`. Whoever makes it also calls `model.load()`."""

    def __init__(self, model: Model, settings: Settings | None = None) -> None:
        self.model = model
        self.settings = settings = settings or Settings()
        self.gate = Gate(max_queue=settings.max_queue, timeout=settings.request_timeout, service=model.service)
        self._routes: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
            settings.serving.health_route: self._health,
            settings.serving.predict_route: self._predict,
        }
        self._predict_route = settings.serving.predict_route
        if settings.metrics:
            self._routes["/metrics"] = self._exposition

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"this application speaks HTTP only, not {scope['type']}")
        route = self._routes.get(scope["path"])
        if route is None:
            routes = ", ".join(self._routes)
            await faults.refusal(404, f"there is nothing here; the routes are {routes}")(scope, receive, send)
        else:
            await route(scope, receive, send)

    def direct(self, cycle: RequestResponseCycle, fields: Mapping[bytes, bytes], defaults: Defaults) -> Direct | None:
        """The short way for the guarded protocol, where there is one for this request. `fields` are its headers."""
        scope, model = cycle.scope, self.model
        if scope["path"] != self._predict_route or scope["method"] != "POST" or model.state not in _SERVES:
            return None
        return Direct(self, cycle, fields, defaults) if model.reads_whole_requests else None

    async def stream(self, stream: Stream, cycle: RequestResponseCycle, traced: trace.Trace, began: float) -> None:
        """The rest of a request that went the short way and turned out to be answered by a stream."""
        scope: Scope = cycle.scope  # type: ignore[assignment]
        trace.current.set(traced)
        exchange = _Exchange(self, scope, cycle.receive, cycle.send, traced)  # type: ignore[arg-type]
        try:
            await exchange.within(lambda _: exchange.stream(stream), began)
        finally:
            if not cycle.response_complete:
                cycle.transport.close()

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            response = _wrong_method(scope, "GET, HEAD")
        elif self.model.state is State.READY:
            response = Response(b"{}", media_type="application/json")
        else:
            response = _unready(self.model.state)
        await response(scope, receive, send)

    async def _exposition(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, content_type = self.model.metrics.exposition()
        await Response(body, media_type=content_type)(scope, receive, send)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await _wrong_method(scope, "POST")(scope, receive, send)
        elif self.model.state not in _SERVES:
            await _unready(self.model.state)(scope, receive, send)
        else:
            await _Exchange(self, scope, receive, send).run()


class _Exchange:
    """One prediction request and its response."""

    __slots__ = ("_app", "_receive", "_scope", "_send", "_status", "_trace")

    def __init__(self, app: App, scope: Scope, receive: Receive, send: Send, traced: trace.Trace | None = None) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self._status = 0
        self._trace = traced or trace.of(scope["headers"])

    async def run(self) -> None:
        """Answer within the deadline, whatever happens, or see the client leave."""
        trace.current.set(self._trace)
        app, began = self._app, time.perf_counter()
        try:
            app.gate.enter()
        except Overloaded as error:
            app.model.metrics.refused(error.reason)
            app.model.metrics.request(error.status_code, 0.0)
            await self._respond(faults.respond(error))
            return
        app.model.metrics.in_flight(1)
        await self.within(self._answer, began)

    async def within(self, work: Callable[[Leash], Awaitable[None]], began: float) -> None:
        """Do `work` inside the gate, and leave it."""
        app = self._app
        leash = Leash(app.gate.timeout - (time.perf_counter() - began), self._receive)
        try:
            await work(leash)
        except ClientDisconnect:
            self._status = self._status or 499
        except asyncio.CancelledError:
            if not leash.pulled:
                raise
            if leash.expired:
                await self._fail(faults.late(app.gate.timeout))
        except Exception as error:  # noqa: BLE001  the author's code may raise anything
            await self._fail(faults.respond(error))
        finally:
            leash.release()
            app.gate.leave()
            app.model.metrics.in_flight(-1)
            app.model.metrics.request(self._status or 499, time.perf_counter() - began)

    async def _answer(self, leash: Leash) -> None:
        body = await self._read()
        leash.watch()
        headers = dict(self._scope["headers"])
        model = self._app.model
        if not model.reads_whole_requests:
            response = await model.handle(self._scope, body, self._receive, self._tracked)
            if response is not None:
                await self._respond(response)
            return
        call = Call(body, headers, max_body=self._app.settings.max_body, traced=self._trace)
        reply = await model.predict(call)
        if isinstance(reply, Reply):
            await self._reply(reply, trace.server_timing(*call.spent))
        else:
            await self.stream(reply)

    async def _read(self) -> bytes:
        """The body. Raises RequestError 413 as soon as it is known to be too large."""
        limit = self._app.settings.max_body
        pieces: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit:
                raise RequestError(f"the body is larger than {limit} bytes, the most that this endpoint takes", 413)
            if len(pieces) > _MANY_PIECES:
                pieces = [b"".join(pieces)]  # an object for each byte would weigh many times the body
            more = message.get("more_body", False)
        return b"".join(pieces)

    async def _reply(self, reply: Reply, timing: bytes) -> None:
        headers = [
            (b"content-type", reply.content_type.encode("latin-1")),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", self._trace.request_id.encode()),
            (b"server-timing", timing),
        ]
        if reply.encoding:
            headers.append((b"content-encoding", reply.encoding.encode()))
        self._status = 200
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": reply.body})

    async def stream(self, stream: Stream) -> None:
        """Chunked. The first piece is made before the status goes out, so that a model that fails at once says so."""
        chunks = stream.chunks(self._app.model.thread)
        try:
            first = await anext(chunks, b"")
            headers = [
                (b"content-type", stream.content_type.encode("latin-1")),
                (b"x-request-id", self._trace.request_id.encode()),
            ]
            await self._tracked({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send({"type": "http.response.body", "body": first, "more_body": True})
            async for chunk in chunks:
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Exception:
            if self._status:
                await self._send({"type": "http.response.body", "body": stream.failed(), "more_body": True})
            raise
        finally:
            await chunks.aclose()
        await self._send({"type": "http.response.body", "body": b""})

    async def _tracked(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        await self._send(message)

    async def _fail(self, response: Response) -> None:
        """Of a response that is half out already, the missing end is the only sign left: the connection closes."""
        if not self._status:
            await self._respond(response)

    async def _respond(self, response: Response) -> None:
        response.headers["x-request-id"] = self._trace.request_id
        await response(self._scope, self._receive, self._tracked)


def _wrong_method(scope: Scope, allowed: str) -> Response:
    return faults.refusal(405, f"{scope['method']} is not allowed here; use {allowed}", {"Allow": allowed})


def _unready(state: State) -> Response:
    return faults.refusal(503, _NOT_READY[state], {"Retry-After": "1"})
