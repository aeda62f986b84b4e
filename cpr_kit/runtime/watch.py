"""What a connection may cost, and the one timer that watches over all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

NEVER = float("inf")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes, counts and seconds that one connection may take. The body's minimum rate is that of Kestrel."""

    max_body: int = 1_500_000
    max_header_bytes: int = 32 * 1024
    max_headers: int = 100
    max_url: int = 8 * 1024
    max_connections: int = 4096
    """Each connection holds a file descriptor; past the process's own limit of them nobody is answered at all."""

    header_timeout: float = 10.0
    body_timeout: float = 60.0
    """From the first byte of a request to the last byte of its body."""

    body_rate: float = 240.0
    """Bytes per second below which a body is too slow, once it had `body_grace` seconds."""

    body_grace: float = 5.0
    write_timeout: float = 60.0
    """How long a client may leave its answer unread."""

    linger: float = 5.0
    """How long input is thrown away after a refusal, so that the client reaches the end of its writing and reads."""

    linger_bytes: int = 64 * 1024 * 1024

    @classmethod
    def within(cls, request_timeout: float, *, max_body: int) -> Limits:
        """For a server that has `request_timeout` seconds for a request; a body may take most of them, not all."""
        return cls(
            max_body=max_body,
            header_timeout=min(cls.header_timeout, request_timeout),
            body_timeout=request_timeout * 3 / 4,
            body_grace=min(cls.body_grace, request_timeout / 2),
            write_timeout=request_timeout,
        )


class Watched(Protocol):
    """A connection: the times after which `expire` is called."""

    deadline: float
    stalled: float

    def expire(self, now: float) -> None: ...


class Watch:
    """Looks at all connections once a tick, and not at all while there is none.

    A timer for each request and phase costs a few percent of a small request; the price here is that limits
    are met within one tick.
    """

    def __init__(self, limits: Limits) -> None:
        shortest = min(limits.header_timeout, limits.body_timeout, limits.body_grace, limits.linger)
        self.tick = max(0.02, min(1.0, shortest / 4))
        self.now = 0.0
        """The event loop's time at the last tick."""

        self.refused: Counter[int] = Counter()
        """How many requests were refused before they came to the application, by status."""

        self._connections: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Watched, loop: asyncio.AbstractEventLoop) -> None:
        self._connections.add(connection)
        if self._timer is None:
            self.now = loop.time()
            self._timer = loop.call_later(self.tick, self._look, loop)

    def discard(self, connection: Watched) -> None:
        self._connections.discard(connection)
        if not self._connections and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = now = loop.time()
        self._timer = loop.call_later(self.tick, self._look, loop)
        for connection in [each for each in self._connections if each.deadline <= now or each.stalled <= now]:
            connection.expire(now)
