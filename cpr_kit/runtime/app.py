"""The ASGI application: two routes, health and predict, and one error handler around both."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from cpr_kit.contract import ServingEnv
from cpr_kit.runtime import faults
from cpr_kit.runtime.model import Model, State

_NOT_READY = {
    State.LOADING: "the model is still loading",
    State.FAILED: "the model could not be loaded",
}


class App:
    """Serves one model on the routes of `serving`. Whoever makes it also calls `model.load()`."""

    def __init__(self, model: Model, serving: ServingEnv | None = None) -> None:
        self.model = model
        serving = serving or ServingEnv()
        self._routes = {serving.health_route: self._health, serving.predict_route: self._predict}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"this application speaks HTTP only, not {scope['type']}")
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._route(scope, receive, watched)
        except ClientDisconnect:
            return
        except Exception as error:
            response = faults.respond(error)
            if started:
                # Half a response is out: closing the connection is the only way left to say that it is no whole one.
                raise
            await response(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"])
        if route is None:
            response = faults.refusal(404, f"there is nothing here; the routes are {', '.join(self._routes)}")
            await response(scope, receive, send)
        else:
            await route(scope, receive, send)

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            response = _wrong_method(scope, "GET, HEAD")
        elif self.model.state is State.READY:
            response = Response(b"{}", media_type="application/json")
        else:
            response = _unready(self.model.state)
        await response(scope, receive, send)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await _wrong_method(scope, "POST")(scope, receive, send)
        elif self.model.state is not State.READY:
            await _unready(self.model.state)(scope, receive, send)
        else:
            body = await Request(scope, receive).body()
            await self.model.answer(scope, body, receive, send)


def _wrong_method(scope: Scope, allowed: str) -> Response:
    return faults.refusal(405, f"{scope['method']} is not allowed here; use {allowed}", {"Allow": allowed})


def _unready(state: State) -> Response:
    return faults.refusal(503, _NOT_READY[state], {"Retry-After": "1"})
