"""Cloud Storage's API over HTTP, as an ASGI application over a depot."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Collection

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cpr_kit.emulator.errors import Code
from cpr_kit.emulator.storage import errors, wire
from cpr_kit.emulator.storage.batch import batch
from cpr_kit.emulator.storage.bucket_calls import BucketCalls
from cpr_kit.emulator.storage.depot import Depot
from cpr_kit.emulator.storage.object_calls import ObjectCalls
from cpr_kit.emulator.storage.upload_calls import UploadCalls

_API = ("storage", "upload", "download", "batch")  # which are no buckets, in a path
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_HUNG_UP, _NOT_ALLOWED = 499, 405


def application(
    depot: Depot, *, number_of: Callable[[str], str] = lambda _: "123456789012", denied: Collection[str] = ()
) -> ASGIApp:
    """/storage/v1, /upload/storage/v1, /download/storage/v1, /batch/storage/v1 and GET /BUCKET/OBJECT.

    `number_of` gives the number of the project that a bucket was made in, "" for one that the depot made: the SDK
    compares it with its own project's before it uses a staging bucket. It raises ApiError for what is no project.
    `denied` are the permissions that testPermissions does not answer with.
    """
    objects = ObjectCalls(depot.objects)

    async def together(request: Request) -> Response:
        return await batch(request, app)

    routes = [
        *BucketCalls(depot.objects, number_of, denied).routes(),
        *objects.routes(),
        *UploadCalls(depot.objects, depot.uploads).routes(),
        Route("/batch/storage/v1", together, methods=["POST"]),
        *(Route(f"/{first}/{{rest:path}}", _not_emulated, methods=_METHODS) for first in _API),
        objects.public(),
    ]
    calls = Starlette(
        routes=routes,
        exception_handlers={
            errors.StorageError: _refused,
            HTTPException: _no_call,
            ClientDisconnect: _hung_up,
            Exception: _failed,
        },
    )
    calls.router.redirect_slashes = False
    app = _AsSent(calls)
    return app


class _AsSent:
    """Routes are found in the path as it was sent: an object's name may have any sign, and %2F is no slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw = scope.get("raw_path") or urllib.parse.quote(scope["path"]).encode()
            scope = {**scope, "path": raw.decode("latin-1"), "root_path": ""}
        await self._app(scope, receive, send)


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.StorageError)
    return wire.refusal(error)


def _no_call(request: Request, error: Exception) -> Response:
    """No route is for this."""
    assert isinstance(error, HTTPException)
    if error.status_code == _NOT_ALLOWED:
        return wire.refusal(errors.not_emulated(request.method, request.scope["path"]))
    return wire.refusal(errors.no_call(request.method, request.scope["path"]))


async def _not_emulated(request: Request) -> Response:
    return wire.refusal(errors.not_emulated(request.method, request.scope["path"]))


def _hung_up(_: Request, __: Exception) -> Response:
    """Nobody reads it; that the caller hung up is no fault of the server."""
    return Response(status_code=_HUNG_UP)


def _failed(_: Request, error: Exception) -> Response:
    """The server logs it: the middleware raises it again."""
    message = f"We encountered an internal error: {error}"
    return wire.refusal(errors.StorageError(Code.INTERNAL, message, "backendError"))
