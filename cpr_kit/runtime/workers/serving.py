"""uvicorn in one process: it listens, loads the model, serves, and drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from cpr_kit.runtime import metrics, startup, watch
from cpr_kit.runtime.app import App
from cpr_kit.runtime.model import Model, State
from cpr_kit.runtime.protocol import guarded
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.workers import ending
from cpr_kit.runtime.workers.limits import Limits

if TYPE_CHECKING:
    from cpr_kit.runtime.asgi import Hosted, OwnApp

# Longer than the 60 s after which Google's front ends drop an idle connection, so that they close it, not we.
_KEEP_ALIVE_S = 75
_CLOSE = (b"connection", b"close")
_LOOK_WHILE_LOADING_S = 0.1
_LOOK_S = 1.0
# Objects made before a look for garbage. A request makes some twenty that Python watches, and frees them itself.
_GARBAGE = 10_000
# How long the loop waits for a model that computes in Python, each time it has something to do. With Python's own
# 5 ms, a busy loop gets to do 200 things a second: five times more requests than it can serve drown it.
_SWITCH_S = 0.0002


class Post:
    """What a server reports to, and asks about others like it. This one stands alone."""

    def failed(self, error: Exception) -> NoReturn:
        """The model could not be loaded."""
        ending.say(f"cannot start: {ending.explain(error)}")
        ending.leave_at_once(1)

    def ready(self) -> None:
        """The model is loaded, and this server listens."""

    def others_serve(self) -> bool:
        return False

    def beat(self) -> None:
        """The event loop runs."""

    def look(self, server: Server) -> None:
        """Once a second while the model is ready."""


def application(make: Callable[[], Any], settings: Settings, counted: metrics.Metrics | None = None) -> App:
    """The one place where model and application are put together."""
    counted = counted or metrics.Off()
    return App(Model(make, settings, counted), settings)


def configuration(app: ASGIApp, settings: Settings, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        http=guarded(watch.Limits.within(settings.request_timeout, max_body=settings.max_body)),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(limits.drain),
        server_header=False,
        proxy_headers=False,
        workers=1,  # else it would read WEB_CONCURRENCY
    )


def _settle() -> None:
    """What is there when the model is loaded stays: a look through all of it for garbage would stop the server for
    as much as 0.1 s, every few thousand requests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    sys.setswitchinterval(_SWITCH_S)


def preload() -> None:
    """Import what uvicorn imports as it starts, for the processes that will be forked from this one."""
    nothing = configuration(_no_application, Settings(), Limits())
    nothing.load()
    nothing.get_loop_factory()


async def _no_application(scope: Scope, receive: Receive, send: Send) -> None:
    pass


class Server(uvicorn.Server):
    """Answers 503 while it loads, unless others serve already; then it leaves the socket to them until it is ready.

    A response while it loads or drains closes its connection, so that the client's next request goes to a server that
    can answer it.
    """

    def __init__(self, app: App | OwnApp, settings: Settings, *, limits: Limits, post: Post) -> None:
        super().__init__(configuration(app, settings, limits))
        self.model: Model | Hosted = app.model
        self._settings, self._limits, self._post = settings, limits, post
        self._listens = False
        self._ends_at = math.inf
        self._asked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are handled by whoever started this server, for longer than it runs."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  a signal handler
        """Drain; a second signal changes nothing."""
        if self._loop is None:
            self.stop()
        else:
            # Not here: a signal may come in the middle of an accept, and the connection would be lost.
            self._loop.call_soon_threadsafe(self.stop)

    def stop(self) -> None:
        """Drain, health being 503 from now on."""
        ready = self.model.state is State.READY
        self.drain(self._limits.last_call if ready else 0.0, listening=True)
        if ready:
            self.model.state = State.DRAINING

    def drain(self, last_call: float, *, listening: bool) -> None:
        """Serve for `last_call` seconds more, the accepted requests until they are done, and end."""
        if self._ends_at != math.inf:
            return
        self._ends_at = time.monotonic() + last_call
        self._asked.set()
        self._close_connections(True)
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                connection.shutdown()  # after its answer; an idle one may still bring a request
        if not listening:
            self._turn_away()

    @property
    def drains(self) -> bool:
        return self._ends_at != math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets, "the socket is made before the server"
        self._listener = sockets[0]
        self._loop = asyncio.get_running_loop()
        self.servers = []
        self.started = True
        self._close_connections(True)
        if not self._post.others_serve():
            await self._listen()
        self._work = [asyncio.create_task(self._load()), asyncio.create_task(self._look())]

    async def main_loop(self) -> None:
        """Sleep until asked to stop, and then for the last call. Uvicorn's own wakes ten times a second."""
        await self._asked.wait()
        await asyncio.sleep(max(0.0, self._ends_at - time.monotonic()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self.model.close()

    async def _load(self) -> None:
        try:
            await self.model.load()
        except Exception as error:  # noqa: BLE001  the author's code may raise anything
            if not self.drains:
                self._post.failed(error)
        if self.drains:
            self.model.state = State.DRAINING
            return
        _settle()
        self._close_connections(False)
        if not self._listens:
            await self._listen()
        self._post.ready()
        serving = self._settings.serving
        startup.report(f"POST {serving.predict_route}, GET {serving.health_route} on port {serving.port}")

    async def _look(self) -> None:
        while True:
            self._post.beat()
            await self.on_tick(0)  # the Date header
            ready = self.model.state is not State.LOADING
            if ready:
                self._post.look(self)
            elif self._listens and self._post.others_serve():
                self._turn_away()
            elif not self._listens and not self.drains and not self._post.others_serve():
                await self._listen()
            await asyncio.sleep(_LOOK_S if ready else _LOOK_WHILE_LOADING_S)

    async def _listen(self) -> None:
        # A copy, which closes with the server: the socket itself stays open for the next time.
        await super().startup([self._listener.dup()])
        self._listens = True

    def _turn_away(self) -> None:
        """Take no new connection; those that wait stay with the socket, for others who have it."""
        for server in self.servers:
            server.close()
        self.servers, self._listens = [], False

    def _close_connections(self, close: bool) -> None:
        headers = [header for header in self.config.encoded_headers if header != _CLOSE]
        self.config.encoded_headers = [*headers, _CLOSE] if close else headers
        state = self.server_state
        state.default_headers = [header for header in state.default_headers if header != _CLOSE]
        if close:
            state.default_headers.append(_CLOSE)
