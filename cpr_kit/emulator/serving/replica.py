"""One replica of a deployed model, as the data path sees it: where it is, and whether it gets traffic."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Replica:
    """Requests are counted on the emulator's loop; the keeper's thread says whether it is ready."""

    def __init__(self, *, number: int, predict_route: str, health_route: str, suspected: Callable[[], None]) -> None:
        self.number = number
        self.base_url = ""
        self.predict_route = predict_route
        self.health_route = health_route
        self.in_flight = 0
        self._ready = False
        self._suspected = suspected
        # Suspicions so far, and those of them that a good answer has cleared since: no lock is needed for two numbers
        # with one writer each.
        self._suspicions = 0
        self._refused = 0  # the last of them that came of a refused connection
        self._cleared = 0
        self._idle = threading.Event()
        self._idle.set()

    @property
    def serving(self) -> bool:
        return self._ready and self._cleared >= self._refused

    @property
    def steady(self) -> bool:
        """Nothing speaks against it; one that is not is asked only where there is no other."""
        return not self.suspected

    @property
    def suspicions(self) -> int:
        return self._suspicions

    @property
    def suspected(self) -> bool:
        return self._cleared != self._suspicions

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Counts one request. Entered in the same step of the loop as `choose`, or a drain may not see it."""
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self._idle.set()

    def failed(self) -> None:
        """Its connection was refused: no traffic until it answers its health check again."""
        self._suspicions += 1
        self._refused = self._suspicions
        self._suspected()

    def broke(self) -> None:
        """Its connection broke off, for which one request may be to blame: the others are asked first until then."""
        self._suspicions += 1
        self._suspected()

    def found(self, *, ready: bool) -> None:
        """The keeper's verdict."""
        self._ready = ready

    def clear(self, suspicions: int) -> None:
        """It answered well after so many suspicions; a later one stands."""
        self._cleared = suspicions

    def wait_until_idle(self, timeout_s: float) -> bool:
        return self._idle.wait(max(timeout_s, 0.0))
