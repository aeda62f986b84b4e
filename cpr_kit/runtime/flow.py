"""The small parts of a guarded connection: when it reads, how it closes, and whether its client is still there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TCP_CLOSE = 7  # Linux's tcp_states.h


class Flow(FlowControl):
    """Reads nothing while input is held back, whoever asks."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class EarlyAnswer:
    """The transport of a request whose body is still arriving: it may be answered, and closed, before its end."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class Trailers(list[tuple[bytes, bytes]]):
    """Trailers are dropped: the application has the headers by now and would take them for those."""

    def append(self, _: tuple[bytes, bytes]) -> None: ...


def is_all_body(cycle: RequestResponseCycle, arrived: int, size: int) -> bool:
    """Whether the next `size` bytes belong to the body, of which so many have arrived: then they need no slicing."""
    lengths = [value for name, value in cycle.scope["headers"] if name == b"content-length"]
    return bool(lengths) and int(lengths[0]) - arrived >= size


def leave(cycle: RequestResponseCycle) -> None:
    """Let the application see that its client is gone."""
    cycle.disconnected = True
    cycle.message_event.set()


def is_reset(transport: asyncio.Transport) -> bool:
    """Whether the client has answered with a reset. Known on Linux only; elsewhere the next write tells."""
    connection = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return False
    state: bytes = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] == _TCP_CLOSE
