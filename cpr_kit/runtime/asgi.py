"""An ASGI application of the author's own behind the kit's server: imported, started, and asked once it is ready."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from cpr_kit.contract import Reference, ServingEnv
from cpr_kit.errors import StartError
from cpr_kit.runtime import faults, mounting, startup, trace
from cpr_kit.runtime.importer import load_name, place, told
from cpr_kit.runtime.model import State
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.thread import beside

_NOT_READY = {
    State.LOADING: "the application is still starting",
    State.FAILED: "the application could not be started",
    State.DRAINING: "the server is stopping",
}
_OF_FASTAPI = ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc")
_MOST_TOLD = 12


class OwnApp:
    """Answers 503 until the application is ready, and on its health route while it drains. The rest is the author's."""

    def __init__(self, settings: Settings) -> None:
        self.model = Hosted(settings)
        self._health_route = settings.serving.health_route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"this server speaks HTTP only, not {scope['type']}")
        state = self.model.state
        if state is State.READY or (state is State.DRAINING and scope["path"] != self._health_route):
            trace.current.set(trace.of(scope["headers"]))  # so that the author's log lines name the request
            await self.model.answer(scope, receive, send)
        else:
            await faults.refusal(503, _NOT_READY[state], {"Retry-After": "1"})(scope, receive, send)


class Hosted:
    """What a server needs to know of an application that it starts: what `Model` is to a predictor."""

    def __init__(self, settings: Settings) -> None:
        assert settings.app is not None
        self.state = State.LOADING
        self.thread = _OnTheLoop()
        self._reference, self._serving = settings.app, settings.serving
        self._app: ASGIApp | None = None
        self._lifespan: Any = None
        self._raised: BaseException | None = None

    async def load(self) -> None:
        """Import the application and let it start. Raises StartError."""
        loop = asyncio.get_running_loop()
        mounting.host()
        try:
            # In a thread, so that health answers however long the import takes.
            app = await beside(functools.partial(imported, self._reference, loop))
            with startup.phase("load"):
                await self._start(app)
            check_routes(app, self._reference, self._serving)
            await mounting.loaded()
        except BaseException:
            self.state = State.FAILED
            raise
        self._app = app
        self.state = State.READY

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._app is not None
        scope["state"] = self._lifespan.state.copy()
        await self._app(scope, receive, send)

    async def close(self) -> None:
        """What the application does at its end, once all that was accepted is answered."""
        if self._app is not None:
            await self._lifespan.shutdown()

    async def _start(self, app: ASGIApp) -> None:
        from uvicorn.lifespan.on import LifespanOn

        async def noted(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except BaseException as error:
                self._raised = error
                raise

        # "auto": an application need not know of this protocol.
        config = uvicorn.Config(
            noted, interface="asgi3", lifespan="auto", ws="none", log_config=None, proxy_headers=False
        )
        self._lifespan = LifespanOn(config)
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            error = self._raised
            cause = f": {told(error)} ({place(error)})" if error is not None else ""
            raise StartError(
                f"the startup of {self._reference} failed{cause}", "mend that line; its traceback is above"
            )


class _OnTheLoop:
    """The model's thread of a server whose model has none."""

    def busy_since(self) -> float | None:
        return None


def imported(reference: Reference, loop: asyncio.AbstractEventLoop | None = None) -> ASGIApp:
    """The application, or what a factory of that name makes. Raises StartError for what is neither."""
    asyncio.set_event_loop(loop)  # of this thread: a module may make its locks and queues as it is imported
    try:
        found = load_name(reference)
        if _takes(found, 0) and not _takes(found, 3):
            found = _made(found, reference)
    finally:
        asyncio.set_event_loop(None)
    if _takes(found, 3) and not inspect.isclass(found):
        app: ASGIApp = found
        return app
    if _takes(found, 2):
        raise StartError(
            f"{reference} is a WSGI application, and not an ASGI one: its type is {type(found).__name__}",
            "wrap it, with a2wsgi.WSGIMiddleware say, or start its own server from a Dockerfile of yours",
        )
    raise StartError(
        f"{reference} is no ASGI application: its type is {type(found).__name__}",
        'name one in cpr.toml: [model] app = "module:name"; a function without parameters that makes one will do',
    )


def check_routes(app: Any, reference: Reference, serving: ServingEnv) -> None:
    """Raises StartError for a route of Vertex AI's that the application is known not to have."""
    routes = _routes(app)
    if routes is None:
        return
    for method, path, key in (
        ("POST", serving.predict_route, "predict_route"),
        ("GET", serving.health_route, "health_route"),
    ):
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": [], "query_string": b""}
        found = {route.matches(scope)[0] for route in routes}
        if Match.FULL in found:
            continue
        what = f"answers {path}, but not to {method}" if Match.PARTIAL in found else f"has no route {method} {path}"
        listed = ", ".join(list(_told(routes))[:_MOST_TOLD]) or "none"
        remedy = f"add it, or say which is yours in cpr.toml: [image] {key}; its routes are {listed}"
        raise StartError(f"{reference} {what}", remedy)


def _routes(app: Any) -> list[Any] | None:
    """Those of a Starlette or FastAPI application; None where what stands around it may answer too."""
    routes = getattr(app, "routes", None)
    if getattr(app, "user_middleware", None):
        return None  # it may answer by itself
    return routes if isinstance(routes, list) and all(hasattr(route, "matches") for route in routes) else None


def _told(routes: list[Any]) -> Iterator[str]:
    for route in routes:
        path = getattr(route, "path", None)
        if path is not None and path not in _OF_FASTAPI:
            yield f"{' '.join(sorted(getattr(route, 'methods', None) or ()))} {path}".strip()


def _made(factory: Any, reference: Reference) -> Any:
    try:
        with startup.phase("load"):
            return factory()
    except (Exception, SystemExit) as error:
        raise StartError(
            f"{reference} could not make the application: {told(error)} ({place(error)})",
            "mend that line; its traceback is above",
        ) from error


def _takes(found: Any, count: int) -> bool:
    """Whether it can be called with so many arguments."""
    try:
        inspect.signature(found).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True
