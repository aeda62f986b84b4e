"""A whole response in one write.

ASGI's two messages cost as much as a small model: each header is looked at for what only an application's own could
hold, and head and body are written apart.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from cpr_kit.runtime import faults
from cpr_kit.runtime.head import Refusal


def send(cycle: RequestResponseCycle, defaults: Defaults, status: int, head: bytes, body: bytes) -> bool:
    """Answer with `head`, header lines made by the kit. False where ASGI's way is needed: its client reads slowly."""
    if cycle.flow.write_paused:
        return False
    if cycle.disconnected:
        return True
    lines, closes = defaults.of(cycle.default_headers)
    if closes:
        cycle.keep_alive = False
    elif not cycle.keep_alive:
        lines += b"connection: close\r\n"
    cycle.response_started = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join((STATUS_LINE[status], lines, head, b"\r\n", body)))
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    cycle.on_response = _nothing  # it leads back to the connection, and a circle would wait for the garbage collector
    return True


def _nothing() -> None: ...


def form(refusal: Refusal, defaults: list[tuple[bytes, bytes]]) -> bytes:
    """The whole answer to what is no request, after which the connection closes."""
    response = faults.refusal(refusal.code, refusal.message, {"Connection": "close"})
    if refusal.code == 503:  # noqa: PLR2004
        response.headers["Retry-After"] = "1"
    lines = [b"%b: %b\r\n" % field for field in (*defaults, *response.raw_headers)]
    return b"".join((STATUS_LINE[refusal.code], *lines, b"\r\n", bytes(response.body)))


class Defaults:
    """The headers of every response as lines; uvicorn makes a new list when they change, once a second for the date."""

    def __init__(self) -> None:
        self._of: list[tuple[bytes, bytes]] = []
        self._lines, self._closes = b"", False

    def of(self, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bool]:
        """The lines, and whether they close the connection."""
        if headers is not self._of:
            self._lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self._closes = (b"connection", b"close") in headers
            self._of = headers
        return self._lines, self._closes
