"""Between HTTP and the calls: what a request says, and how its answer is written."""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cpr_kit.emulator.errors import ApiError
from cpr_kit.emulator.storage import errors
from cpr_kit.emulator.storage.conditions import Conditions, number
from cpr_kit.emulator.storage.contents import CHUNK, Draft
from cpr_kit.emulator.storage.objects import NewObject, Reference
from cpr_kit.emulator.storage.records import object_fields

_GOOGLE = ".googleapis.com"
_JSON_BYTES = 1 << 20


def base(request: Request) -> str:
    """Scheme and host of the links in an answer, so that whoever follows one comes here again.

    Google's own hosts are reached by TLS alone, which the proxy has taken off by now.
    """
    host = request.headers.get("host", "")
    scheme = "https" if host.partition(":")[0].endswith(_GOOGLE) else request.url.scheme
    return f"{scheme}://{host}"


def path(request: Request, name: str) -> str:
    """A part of the path, decoded: the route is found in the path as it was sent, where %2F is no slash."""
    return decoded(request.path_params[name])


def decoded(text: str) -> str:
    try:
        return urllib.parse.unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise errors.invalid(f"The path is not UTF-8: {text}") from None


def reference(request: Request, bucket: str = "bucket", name: str = "object", prefix: str = "if") -> Reference:
    """The object that the path names; `prefix` is ifSource for the one that is copied from."""
    query = request.query_params
    return Reference(
        bucket=path(request, bucket),
        name=path(request, name),
        generation=number(query, "generation" if prefix == "if" else "sourceGeneration"),
        conditions=Conditions.of(query, request.headers if prefix == "if" else None, prefix=prefix),
    )


def new_object(request: Request, bucket: str, name: object, body: Mapping[str, Any]) -> NewObject:
    """What a body says of the object that is to be written."""
    for told in ("crc32c", "md5Hash"):
        if not isinstance(body.get(told), str | None):
            raise errors.invalid(f"Invalid value for {told}: {body[told]!r}")
    return NewObject(
        bucket=bucket,
        name=name if isinstance(name, str) else "",
        fields=object_fields(body),
        conditions=Conditions.of(request.query_params, request.headers),
        crc32c=body.get("crc32c"),
        md5=body.get("md5Hash"),
    )


def hashes(headers: Mapping[str, str]) -> dict[str, str | None]:
    """The checksums of X-Goog-Hash."""
    found: dict[str, str | None] = {"crc32c": None, "md5": None}
    for told in headers.get("x-goog-hash", "").split(","):
        name, _, value = told.strip().partition("=")
        if name in found:
            found[name] = value
    return found


async def json_body(request: Request) -> dict[str, Any]:
    """The resource that was sent; {} for none."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > _JSON_BYTES:
            raise errors.too_large(f"The body has more than {_JSON_BYTES} bytes.")
    return parsed(data)


def parsed(data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise errors.invalid(f"Parse Error: {error}", "parseError") from None
    if not isinstance(value, dict):
        raise errors.invalid("Parse Error: the body is no JSON object", "parseError")
    return value


async def receive(pieces: AsyncIterator[bytes], draft: Draft) -> None:
    """All that comes goes into the draft; what came before the caller hung up, too."""
    waiting: list[bytes] = []
    size = 0
    try:
        async for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= CHUNK:
                await run_in_threadpool(draft.write, waiting)
                waiting, size = [], 0
    except ClientDisconnect:
        await run_in_threadpool(draft.write, waiting)
        raise
    await run_in_threadpool(draft.write, waiting)


def answer(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json; charset=UTF-8")


def refusal(error: ApiError) -> Response:
    if isinstance(error, errors.NotModified):
        return Response(status_code=error.http_status)
    return answer(error.body(), error.http_status)
