"""The one place where an exception becomes a response."""

from __future__ import annotations

import functools
import logging
import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from cpr_kit.errors import RequestError
from cpr_kit.runtime.admission import Overloaded
from cpr_kit.runtime.serializer import JSON, dumps

logger = logging.getLogger("cpr_kit")

# The names of google.rpc.Code that Google's APIs use for these statuses.
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FIRST_SERVER_FAULT = 500
_LEAST_STATUS, _LAST_STATUS = 200, 599
_WITHOUT_BODY = (204, 304)
_FRAMING = ("connection", "content-length", "content-type", "transfer-encoding")  # the response's own
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TEXT = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def respond(error: Exception) -> Response:
    """4xx with its reason for the caller's mistakes; everything else is logged here and told to nobody.

    An HTTPException that the author raised keeps its status, its detail and its headers.
    """
    if isinstance(error, RequestError):
        return refusal(error.status_code, error.message)
    if isinstance(error, Overloaded):
        return _overloaded(error.message, error.retry_after)
    if isinstance(error, HTTPException):
        try:
            return _authors(error)
        except (TypeError, ValueError) as wrong:
            error = wrong
    logger.disabled = False  # a dictConfig of the author's disables loggers that it does not know
    logger.error("a request failed", exc_info=error)
    return refusal(_FIRST_SERVER_FAULT, "the model failed on this request; the reason is in the server's log")


def _authors(error: HTTPException) -> Response:
    """Raises TypeError or ValueError for what is no HTTP."""
    if not _LEAST_STATUS <= error.status_code <= _LAST_STATUS:
        raise ValueError(f"an HTTPException has status {error.status_code}")
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() not in _FRAMING}
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not _TEXT.fullmatch(value):
            raise ValueError("an HTTPException has a header that is none")
    if error.status_code in _WITHOUT_BODY:
        return Response(b"", error.status_code, headers)
    detail: Any = error.detail  # FastAPI allows any JSON value
    message = detail if isinstance(detail, str) else dumps(detail).decode()
    return refusal(error.status_code, message, headers)


def _overloaded(message: str, retry_after: int) -> Response:
    return refusal(429, message, {"Retry-After": str(retry_after)})


@functools.lru_cache(maxsize=64)
def overloaded(message: str, retry_after: int) -> tuple[bytes, bytes]:
    """The head's lines and the body of a 429. Under load they are many and alike, and there is no time for them."""
    response = _overloaded(message, retry_after)
    return b"".join(b"%b: %b\r\n" % header for header in response.raw_headers), bytes(response.body)


def late(timeout: float) -> Response:
    return refusal(504, f"the model did not answer within the {timeout:g} s that a request has")


def refusal(code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """`{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "..."}}`."""
    status = _STATUS.get(code, "INTERNAL" if code >= _FIRST_SERVER_FAULT else "INVALID_ARGUMENT")
    message = str(message).encode(errors="replace").decode()  # whatever the author raised, the status stays
    body = dumps({"error": {"code": code, "status": status, "message": message}})
    return Response(body, code, headers, JSON)
