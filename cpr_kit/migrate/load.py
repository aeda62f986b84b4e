"""A closed loop: each connection asks again as soon as it is answered. For comparing servers with each other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import cast

from cpr_kit.errors import PredictionError

HOST = "127.0.0.1"
_OK, _UNAVAILABLE, _GATEWAY_TIMEOUT = 200, 503, 504
_WAIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """A POST to a port of this machine."""

    port: int
    path: str
    body: bytes
    content_type: str

    def encoded(self) -> bytes:
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {HOST}:{self.port}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


def rate(request: Request, *, connections: int, seconds: float) -> float:
    """Answers of 200 a second over kept connections. Raises PredictionError for any other answer, or for none."""
    loop = _loop()
    try:
        return loop.run_until_complete(_rate(request, connections, seconds))
    finally:
        loop.close()


def _loop() -> asyncio.AbstractEventLoop:
    """The fastest there is: the client must not be what is measured."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _rate(request: Request, connections: int, seconds: float) -> float:
    tally = _Tally(until=time.monotonic() + seconds)
    began = time.monotonic()
    await asyncio.gather(*(_ask(request, tally) for _ in range(connections)))
    if tally.refused:
        raise PredictionError(tally.refused, f"a request over {connections} connections at once was not answered 200")
    if not tally.answers:
        raise PredictionError(_UNAVAILABLE, f"port {request.port} closes connections without an answer")
    return tally.answers / (time.monotonic() - began)


async def _ask(request: Request, tally: _Tally) -> None:
    """One connection, opened again when the server has closed it."""
    while time.monotonic() < tally.until and not tally.refused:
        closed = asyncio.get_running_loop().create_future()
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda closed=closed: _Connection(request.encoded(), tally, closed),  # type: ignore[misc]
                HOST,
                request.port,
            )
        except OSError as error:
            raise PredictionError(_UNAVAILABLE, f"port {request.port} takes no connection: {error}") from error
        try:
            await asyncio.wait_for(closed, tally.until - time.monotonic() + _WAIT_S)
        except asyncio.TimeoutError as error:
            raise PredictionError(_GATEWAY_TIMEOUT, f"no answer within {_WAIT_S:g} s") from error
        finally:
            transport.close()


@dataclass
class _Tally:
    until: float
    answers: int = 0
    refused: int = 0


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, tally: _Tally, closed: asyncio.Future[None]) -> None:
        import httptools

        self._request = request
        self._tally = tally
        self._closed = closed
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by descent
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        assert self._transport is not None
        status = self._parser.get_status_code()
        if status != _OK:
            self._tally.refused = status
        else:
            self._tally.answers += 1
        over = self._tally.refused or time.monotonic() >= self._tally.until
        if not over and self._parser.should_keep_alive():
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):
            self._closed.set_result(None)
