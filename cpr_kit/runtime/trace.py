"""Which request this is: its id, the caller's trace, and the time that its steps took."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import NamedTuple

REQUEST_ID = b"x-request-id"
_TRACEPARENT = b"traceparent"
_CLOUD = b"x-cloud-trace-context"
_NAMES = frozenset((REQUEST_ID, _TRACEPARENT, _CLOUD))

_ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
# https://www.w3.org/TR/trace-context/#traceparent-header: a later version may go on after the flags.
_W3C = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
# https://cloud.google.com/trace/docs/trace-context#legacy-http-header: the span is decimal.
_GOOGLES = re.compile(rb"(?!0{32})([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-3]))?")
_MAX_SPAN = 2**64 - 1

# Not os.urandom, which is a system call for each request; nothing is kept secret by an id. Not the module's own
# generator either, which a model may seed.
_random = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_random.seed)


class Trace(NamedTuple):
    """A request as its logs know it. `trace_id` and `span_id` are lower-case hex, or empty."""

    request_id: str
    trace_id: str = ""
    span_id: str = ""
    sampled: bool = False

    @property
    def header(self) -> tuple[bytes, bytes]:
        """The id for the response."""
        return REQUEST_ID, self.request_id.encode("ascii")


current: ContextVar[Trace | None] = ContextVar("current", default=None)
"""The request that the code which runs now works for; the log reads it."""


def of(headers: list[tuple[bytes, bytes]], fields: Mapping[bytes, bytes] | None = None) -> Trace:
    """Read ASGI's headers. What is malformed, or there twice, counts as not there; nothing raises.

    `fields` is `dict(headers)` where that is known already.
    """
    if fields is not None and _NAMES.isdisjoint(fields):
        return Trace(_made())
    found = {}
    for name, value in headers:
        if name in _NAMES:
            found[name] = b"" if name in found else value
    if not found:
        return Trace(_made())
    given = found.get(REQUEST_ID, b"")
    request_id = given.decode("ascii") if _ID.fullmatch(given) else _made()
    return _w3c(request_id, found.get(_TRACEPARENT, b"")) or _googles(request_id, found.get(_CLOUD, b""))


def server_timing(queue: float, preprocess: float, predict: float, postprocess: float) -> bytes:
    """The value of Server-Timing: milliseconds, from seconds."""
    return b"queue;dur=%.3f, preprocess;dur=%.3f, predict;dur=%.3f, postprocess;dur=%.3f" % (
        queue * 1e3,
        preprocess * 1e3,
        predict * 1e3,
        postprocess * 1e3,
    )


def _made() -> str:
    return f"{_random.getrandbits(128):032x}"


def _w3c(request_id: str, value: bytes) -> Trace | None:
    match = _W3C.fullmatch(value)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if more is not None and version == b"00":
        return None
    return Trace(request_id, trace_id.decode(), span_id.decode(), bool(int(flags, 16) & 1))


def _googles(request_id: str, value: bytes) -> Trace:
    match = _GOOGLES.fullmatch(value)
    span = int(match[2] or 0) if match else 0
    if match is None or span > _MAX_SPAN:
        return Trace(request_id)
    return Trace(request_id, match[1].lower().decode(), f"{span:016x}" if span else "", match[3] in (b"1", b"3"))
