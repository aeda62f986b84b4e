"""Who may come in: a bounded number of requests, each with a deadline that it can still meet."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Protocol

from cpr_kit.errors import CprError
from cpr_kit.runtime.leash import margin

logger = logging.getLogger("cpr_kit")

_FORGETTING = 0.95
_SAME = 1e-9
_HOPE = 0.8
"""The share of its time that a request may be expected to wait: what is estimated may turn out longer."""


class ServiceTime:
    """What a turn of the model takes, learned as it goes: a + b * requests, where requests are joined.

    Least squares with forgetting. Until the sizes of turns differ, `a` is taken to be all: a model that has
    not been seen under load is not yet known to be too slow for it.
    """

    def __init__(self) -> None:
        self.limit = 1
        self._weight = self._n = self._s = self._nn = self._ns = 0.0
        self._a = self._b = 0.0

    def observe(self, requests: int, seconds: float) -> None:
        self._weight = self._weight * _FORGETTING + 1
        self._n = self._n * _FORGETTING + requests
        self._s = self._s * _FORGETTING + seconds
        self._nn = self._nn * _FORGETTING + requests * requests
        self._ns = self._ns * _FORGETTING + requests * seconds
        n, s = self._n / self._weight, self._s / self._weight
        variance = self._nn / self._weight - n * n
        self._b = 0.0 if variance < _SAME else max(0.0, (self._ns / self._weight - n * s) / variance)
        self._a = max(0.0, s - self._b * n)

    def expected(self, requests: int) -> float:
        """Seconds until the last of so many requests is answered."""
        return -(-requests // self.limit) * self._a + requests * self._b

    def within(self, seconds: float, requests: int) -> int:
        """How many of so many requests one turn of that length answers."""
        requests = min(requests, self.limit)
        if self._a + self._b * requests <= seconds:
            return requests
        return max(0, int((seconds - self._a) / self._b)) if self._b else 0


class Overloaded(CprError):
    """There is no room, or no time. 429, not 503: a platform takes a 503 for a sick container and drops it."""

    status_code = 429

    def __init__(self, message: str, retry_after_s: float, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = max(1, math.ceil(retry_after_s))
        self.reason = reason


class Expiring(Protocol):
    """What has been inside for its whole time is told so."""

    def expire(self) -> None: ...


class Deadlines:
    """Expires whatever stays longer than `seconds`. All have the same time, so one timer does for all of them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[Expiring, float] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def add(self, request: Expiring, began: float) -> None:
        """`began` is of time.perf_counter."""
        self._ends[request] = began + self._seconds
        if self._timer is None:
            self._wait(self._seconds)

    def remove(self, request: Expiring) -> None:
        self._ends.pop(request, None)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._look)

    def _look(self) -> None:
        self._timer = None
        while self._ends:
            request, end = next(iter(self._ends.items()))
            left = end - time.perf_counter()
            if left > 0:
                self._wait(left)
                return
            del self._ends[request]
            try:
                request.expire()
            except Exception:
                logger.exception("a request that is late could not be told so")


class Gate:
    """Counts the requests inside and refuses those that would wait in vain. Used by one event loop."""

    def __init__(self, *, max_queue: int, timeout: float, service: ServiceTime) -> None:
        self.max_queue = max_queue
        self.timeout = timeout
        self.service = service
        self.inside = 0
        self.deadlines = Deadlines(timeout - margin(timeout))

    def enter(self) -> None:
        """Raises Overloaded at once; otherwise `leave` must follow."""
        wait = self.service.expected(self.inside + 1)
        if self.inside >= self.max_queue:
            raise Overloaded(f"{self.inside} requests are waiting already; try again later", wait, "queue full")
        if self.inside and wait > self.timeout * _HOPE:
            raise Overloaded(
                f"this would take about {wait:.1f} s, and a request has {self.timeout:g} s; try again later",
                wait - self.timeout * _HOPE,
                "no time",
            )
        self.inside += 1

    def leave(self) -> None:
        self.inside -= 1
