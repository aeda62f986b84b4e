"""Which region a request goes to: the nearest that works; one that failed is tried again by a single request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence


class Routes:
    """Regions, the nearest first. Safe to use from several threads, and needs none of its own.

    A region that failed is left out for `cool_down_s`. Then one request is sent to it; the others go on passing it by
    until that one was answered.
    """

    def __init__(
        self, regions: Sequence[str], *, cool_down_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._order = tuple(regions)
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def order(self) -> tuple[str, ...]:
        return self._order

    @order.setter
    def order(self, regions: Sequence[str]) -> None:
        with self._lock:
            self._order = tuple(regions)

    @property
    def down(self) -> tuple[str, ...]:
        """Those that failed and have not answered since."""
        with self._lock:
            return tuple(region for region in self._order if region in self._until)

    def choose(self, tried: Collection[str] = ()) -> str | None:
        """Where to send a request that `tried` have failed; None once it has been everywhere.

        Where all that are left have failed lately, the nearest of them: it is better than no answer.
        """
        with self._lock:
            left = [region for region in self._order if region not in tried]
            now = self._clock()
            for region in left:
                until = self._until.get(region)
                if until is None:
                    return region
                if until <= now:
                    self._until[region] = now + self._cool_down_s  # this request is the one that tries it
                    return region
            return left[0] if left else None

    def answered(self, region: str) -> None:
        with self._lock:
            self._until.pop(region, None)

    def failed(self, region: str) -> None:
        with self._lock:
            self._until[region] = self._clock() + self._cool_down_s
