"""Where the next turn of the model runs: in its own thread, or, while turns are short, on the server's loop.

The way to another thread and back costs more than a small model's whole prediction. What may be slow never
runs on the loop, which answers health: only the shipped `predict`, whose time follows from its input, and only
as long as what was measured says so.
"""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable

from cpr_kit.runtime.admission import ServiceTime

_ENOUGH = 32
_SHORT_S = 0.002
"""The shortest of the last turns took no longer than this: what the model itself takes."""
_QUIET_S = 0.05
"""None of the last turns took longer than this, the wait for Python's lock included."""
_TURN_S = 0.004
"""What a turn on the loop may be expected to take."""
_SLOW_S = 0.05
_STALLED_S = 1.0
"""Two turns on the loop in a row that took longer than the first send the model back to its thread, or one that took
longer than the second. One alone is as likely the machine's: a shared processor goes away for that long.
"""
_BARRED_S = (10.0, 3600.0)
"""For how long: the first time, and at most, doubling until it has held out for as long."""


class Pace:
    """Used by the server's loop alone."""

    def __init__(self, service: ServiceTime, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._clock = clock
        self._seconds: collections.deque[float] = collections.deque(maxlen=_ENOUGH)
        self._short = False
        self._largest = 0
        self._was_slow = False
        self._barred_until = 0.0
        self._penalty = _BARRED_S[0]

    def observe(self, seconds: float, size: float, *, here: bool) -> None:
        """A turn took so long, on the loop (`here`) or in the thread; its largest body had `size` bytes."""
        if seconds <= _TURN_S and size < math.inf:
            self._largest = max(self._largest, int(size))
        slow = here and seconds > _SLOW_S
        if slow and (self._was_slow or seconds > _STALLED_S):
            self._bar()
        elif not self._short:
            self._seconds.append(seconds)
            self._short = (
                len(self._seconds) == _ENOUGH and min(self._seconds) <= _SHORT_S and max(self._seconds) <= _QUIET_S
            )

        self._was_slow = slow

    def _bar(self) -> None:
        now = self._clock()
        if now - self._barred_until > self._penalty:
            self._penalty = _BARRED_S[0]
        self._short = False
        self._seconds.clear()
        self._barred_until = now + self._penalty
        self._penalty = min(2 * self._penalty, _BARRED_S[1])

    def share(self, waiting: int, size: float) -> int:
        """How many of the requests that wait, the largest of `size` bytes, the loop may answer in one turn; 0: none."""
        if not self._short or size > 2 * self._largest or self._clock() < self._barred_until:
            return 0
        return self._service.within(_TURN_S, waiting)


class Never(Pace):
    """For code that may do anything, and so take any time."""

    def observe(self, seconds: float, size: float, *, here: bool) -> None:
        pass

    def share(self, waiting: int, size: float) -> int:  # noqa: ARG002
        return 0
