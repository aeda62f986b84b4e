"""Two connections joined: what one end reads, the other writes, no faster than it can."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import cast

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


def acknowledge(transport: asyncio.BaseTransport) -> None:
    """Acknowledge what was read at once, where the system can.

    urllib3 leaves Nagle's algorithm on for connections through a proxy: its client holds a request's body back until
    the head is acknowledged, and that takes 40 ms. The setting lasts until the next write, so it is made again.
    """
    if _QUICKACK is not None and (sock := transport.get_extra_info("socket")) is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


# ruff: noqa: SLF001 - the two ends are one thing


class End(asyncio.Protocol):
    """One of the two; `join` gives it its peer. Both asyncio and uvloop set TCP_NODELAY on their own."""

    def __init__(self, *, client: bool = False, gone: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._gone = gone
        self._peer: End | None = None
        self._early = b""
        self._ended = False
        self._transport: asyncio.Transport | None = None

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def join(self, peer: End) -> None:
        """From here on; what a peer has read before, or its end, goes over now."""
        self._peer, peer._peer = peer, self
        self._catch_up()
        peer._catch_up()

    def _catch_up(self) -> None:
        if self._early:
            self._other.write(self._early)
        if self._ended:
            self._pass_end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._client:
            acknowledge(self.transport)
        if self._peer is None:
            self._early += data
        else:
            self._other.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self._peer is not None:
            self._pass_end()
        return self._client

    def _pass_end(self) -> None:
        """A server's end is the end of all; a client's goes to the server, which may still have to answer."""
        assert self._peer is not None
        if self._client and not self._peer._ended and self._other.can_write_eof():
            with contextlib.suppress(OSError):
                self._other.write_eof()
        else:
            self._other.close()  # what is still to be written is written

    def pause_writing(self) -> None:
        if self._peer is not None:
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if self._peer is not None and not self._peer._ended and not self._other.is_closing():
            self._other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        if self._peer is not None:
            if exc is None:
                self._other.close()
            else:
                self._other.abort()
        self._gone()

    @property
    def _other(self) -> asyncio.Transport:
        assert self._peer is not None
        return self._peer.transport
