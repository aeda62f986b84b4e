"""Many calls in one request: multipart/mixed, each part an HTTP request. Source: "Sending batch requests"."""

from __future__ import annotations

import email.message
import email.parser
import email.policy
import http
import urllib.parse
import uuid

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Scope

from cpr_kit.emulator.storage import errors, wire
from cpr_kit.emulator.storage.related import boundary

_CALLS = 1000
_BYTES = 10 << 20
_REQUEST_LINE = 3


async def batch(request: Request, app: ASGIApp) -> Response:
    """Each call is put to the app in turn; one that fails does not stop the others."""
    content_type = request.headers.get("content-type", "")
    boundary(content_type)
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > _BYTES:
            raise errors.too_large(f"The batch request has more than {_BYTES} bytes.")
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode("latin-1")
    message = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head + data)
    parts = message.get_payload()
    if not isinstance(parts, list) or not 1 <= len(parts) <= _CALLS:
        raise errors.invalid(f"A batch request has 1 to {_CALLS} parts of Content-Type application/http.")
    mark = f"batch_{uuid.uuid4().hex}"
    answers = [await _answer(part, request, app) for part in parts if isinstance(part, email.message.Message)]
    body = b"".join(b"--%s\r\n%s\r\n" % (mark.encode(), answer) for answer in answers) + b"--%s--\r\n" % mark.encode()
    return Response(body, media_type=f"multipart/mixed; boundary={mark}")


async def _answer(part: email.message.Message, outer: Request, app: ASGIApp) -> bytes:
    """The part of the answer to one part."""
    try:
        scope, body = _call(part, outer)
        status, headers, content = await _called(app, scope, body)
    except errors.StorageError as error:
        refused = wire.refusal(error)
        status, headers, content = refused.status_code, refused.raw_headers, bytes(refused.body)
    content_id = str(part.get("content-id", "<1>")).strip().removeprefix("<").removesuffix(">")
    lines = [
        b"Content-Type: application/http",
        b"Content-ID: <response-%s>" % content_id.encode("utf-8", "replace"),
        b"",
        b"HTTP/1.1 %d %s" % (status, _phrase(status).encode()),
        *(b"%s: %s" % header for header in headers),
        b"",
        content,
    ]
    return b"\r\n".join(lines)


def _call(part: email.message.Message, outer: Request) -> tuple[Scope, bytes]:
    """The request that a part holds, as ASGI has it; host and scheme are those of the batch."""
    payload = part.get_payload(decode=True)
    first, _, rest = (payload if isinstance(payload, bytes) else b"").lstrip().partition(b"\n")
    words = first.decode("latin-1").split()
    if part.get_content_type() != "application/http" or len(words) != _REQUEST_LINE:
        raise errors.invalid(f"A part of a batch request starts METHOD URL HTTP/1.1, not {first[:80]!r}.")
    method, url = words[0].upper(), urllib.parse.urlsplit(words[1])
    if not url.path.startswith("/storage/v1/") or "alt=media" in url.query.split("&"):
        raise errors.invalid(f"A batch request cannot have {method} {url.path}: no uploads, no downloads, no batch")
    # The headers end at the first empty line; the body is as it was sent.
    head, _, body = rest.replace(b"\r\n", b"\n").partition(b"\n\n") if not rest.startswith(b"\n") else (b"", b"", rest)
    inner = email.parser.BytesHeaderParser().parsebytes(head)
    headers = [(name.lower().encode(), str(value).encode()) for name, value in inner.items() if name.lower() != "host"]
    scope = {
        **outer.scope,
        "method": method,
        "path": url.path,
        "raw_path": url.path.encode("latin-1"),
        "query_string": url.query.encode("latin-1"),
        "headers": [*headers, (b"host", outer.headers.get("host", "").encode())],
    }
    return scope, body.strip()


async def _called(app: ASGIApp, scope: Scope, body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], sent[0]["headers"], b"".join(message.get("body", b"") for message in sent[1:])


def _phrase(status: int) -> str:
    return http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else "Unknown"
