"""Who may ask, and which of the emulator's parts answers: by the request's host and path."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cpr_kit.emulator.errors import ApiError, invalid_argument, permission_denied, unimplemented
from cpr_kit.emulator.faults import FaultError
from cpr_kit.emulator.proxy import google, hosts
from cpr_kit.emulator.service import Service

_STORAGE_HOSTS = ("storage.googleapis.com", "storage.mtls.googleapis.com", "storage-download.googleapis.com")
# Regional, private and mutual-TLS names of Vertex AI's API too ("Choose an endpoint type").
_VERTEX_HOSTS = re.compile(r"(?:.*[.-])?aiplatform[.-].*|.*\.vertexai\.goog")
_STORAGE_PATHS = re.compile(r"/(?:(?:upload|download|resumable/upload)/)?storage/v1/|/batch/storage/v1|/batch$")
_PRIVATE_HOST = re.compile(r"([^.]+)\.aiplatform\.googleapis\.com")
_KIND = re.compile(r"/storage/v1/(?:b/[^/]+)?(/o)?(?:/(.+))?")
_VERBS = {"POST": "insert", "PUT": "insert", "GET": "get", "HEAD": "get", "DELETE": "delete", "PATCH": "patch"}
_CROSS_SITE = ("cross-site", "same-site")
ABORT = "cpr.abort"
"""In a request's scope: ends its connection at once."""


class Front:
    """An ASGI application. `api` and `admin` are left out where only containers ask.

    `also` names hosts beside Google's and this machine's own. A page that a browser got elsewhere is refused, and so is
    every other host: a name that someone lets point here would make such a page look like one of ours (DNS rebinding).
    """

    def __init__(
        self,
        service: Service,
        *,
        storage: ASGIApp,
        google_hosts: ASGIApp,
        api: ASGIApp | None = None,
        admin: ASGIApp | None = None,
        also: Callable[[str], bool] = lambda _: False,
        private: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._service = service
        self._storage = storage
        self._google = google_hosts
        self._api = api
        self._admin = admin
        self._also = also
        self._private = private

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            host = hosts.normal(_without_port(headers.get(b"host", "")))
            self._check(host, headers)
            app = self._choose(scope, host)
            if app is self._storage:
                await self._store(scope, receive, send)
            elif app is self._google and google.gives_tokens(scope):
                await self._give_token(scope, receive, send)
            else:
                await app(scope, receive, send)
        except ApiError as error:
            if isinstance(error, FaultError) and error.cuts:
                await cut(scope, receive)
            else:
                await refuse(send, error)

    def _check(self, host: str, headers: Mapping[bytes, str]) -> None:
        if not (host in hosts.LOCAL or hosts.is_google(host) or self._also(host)):
            raise permission_denied(f'The Host "{host}" is not one that the emulator answers for.')
        origin = headers.get(b"origin")
        own = origin is not None and origin.partition("://")[2].lower() == headers.get(b"host", "").lower()
        if (origin is not None and not own) or headers.get(b"sec-fetch-site") in _CROSS_SITE:
            raise permission_denied("Pages of other sites may not ask the emulator.")

    def _choose(self, scope: Scope, host: str) -> ASGIApp:
        path = scope["path"]
        if _STORAGE_PATHS.match(path) or (host in _STORAGE_HOSTS and not google.serves(scope)):
            return self._storage
        if google.serves(scope) or (self._api is None and google.asks_metadata(scope)):
            return self._google
        if hosts.is_google(host) and not _VERTEX_HOSTS.fullmatch(host):
            self._refuse_service(scope, host)
        if self._admin is not None and path.startswith("/emulator/"):
            return self._admin
        if self._api is None:
            raise permission_denied("Containers are answered for storage, tokens and metadata alone.")
        if match := _PRIVATE_HOST.fullmatch(host):
            name = self._private(match[1])
            if name is not None:  # http://E.aiplatform.googleapis.com/v1/models/DM:predict
                scope["path"] = f"/private/{name}{path}"
        return self._api

    def _refuse_service(self, scope: Scope, host: str) -> NoReturn:
        """One of Google's that nothing here stands for."""
        with self._service.seen("REST", f"{scope['method']} {host}{scope['path']}", ""):
            raise unimplemented(
                f"{host} is not emulated; the emulator has Vertex AI's models, endpoints, predictions and batch "
                "prediction jobs, Cloud Storage, and what tokens and projects need."
            )

    async def _store(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, resource = storage_call(scope)
        with self._service.seen("GCS", method, resource) as seen:

            async def note(message: Message) -> None:
                if message["type"] == "http.response.start" and message["status"] >= 400:  # noqa: PLR2004
                    seen.status = str(message["status"])
                if seen.lost is None:
                    await send(message)

            await self._service.strike(method, seen)
            await self._storage(scope, receive, note)

    async def _give_token(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A credential that has expired, or was revoked, is refused here: a fault with `status`."""
        with self._service.seen("REST", "token", "") as seen:
            try:
                await self._service.strike("oauth2.token", seen)
            except FaultError as error:
                seen.status = str(error.http_status)
                await google.token_refusal(error.http_status, error.message)(scope, receive, send)
                return
            await self._google(scope, receive, _nobody if seen.lost else send)


async def _nobody(_: Message) -> None:
    """Where an answer goes that is lost."""


async def cut(scope: Scope, receive: Receive) -> None:
    """End the connection of a request, without an answer."""
    scope[ABORT]()
    while (await receive())["type"] != "http.disconnect":
        pass


def storage_call(scope: Scope) -> tuple[str, str]:
    """The call's name in Cloud Storage's JSON API, for faults and for its line, and what it is about."""
    path, verb = scope["path"], _VERBS.get(scope["method"], "get")
    match = _KIND.search(path)
    if not match:
        return "storage.objects.get" if "/batch" not in path else "storage.batch", path
    objects, rest = match.groups()
    kind = "objects" if objects else "buckets"
    if objects and rest:
        for word, name in (("/copyTo/", "copy"), ("/rewriteTo/", "rewrite"), ("/compose", "compose")):
            verb = name if word in f"/{rest}" else verb
    elif verb == "get" and (objects or path.rstrip("/").endswith("/b")):
        verb = "list"
    return f"storage.{kind}.{verb}", path.partition("/storage/v1/")[2]


async def refuse(send: Send, error: ApiError) -> None:
    body = json.dumps(error.body()).encode()
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    if isinstance(error, FaultError) and error.retry_after_s is not None:
        headers.append((b"retry-after", f"{error.retry_after_s:g}".encode()))
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _without_port(host: str) -> str:
    head, colon, port = host.rpartition(":")
    return head if colon and port.isdigit() else host


def admin(service: Service, about: Callable[[], dict[str, Any]]) -> ASGIApp:
    """`/emulator/`: what it is doing, and faults on demand while it runs."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from cpr_kit.emulator import faults
    from cpr_kit.errors import UsageError

    def invalid(message: str) -> Response:
        error = invalid_argument(message)
        return JSONResponse(error.body(), error.http_status)

    async def show(_: Request) -> Response:
        return JSONResponse(about())

    async def list_faults(_: Request) -> Response:
        return JSONResponse({"faults": service.faults.entries()})

    async def add_fault(request: Request) -> Response:
        try:
            number = service.faults.add(faults.parse(await request.json()))
        except UsageError as error:
            return invalid(str(error))
        except (ValueError, RecursionError) as error:
            return invalid(f"the body is no JSON ({error}); send a fault as a text or an object with a call")
        return JSONResponse({"id": number}, 201)

    async def clear_faults(_: Request) -> Response:
        service.faults.clear()
        return JSONResponse({})

    async def remove_fault(request: Request) -> Response:
        try:
            service.faults.remove(int(request.path_params["number"]))
        except ApiError as error:
            return JSONResponse(error.body(), error.http_status)
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/emulator/", show, methods=["GET"]),
            Route("/emulator/faults", list_faults, methods=["GET"]),
            Route("/emulator/faults", add_fault, methods=["POST"]),
            Route("/emulator/faults", clear_faults, methods=["DELETE"]),
            Route("/emulator/faults/{number:int}", remove_fault, methods=["DELETE"]),
        ]
    )
