"""How long a download bears with a storage that fails, and the waiting itself."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

from cpr_kit.errors import StartError

_LONGEST_PAUSE_S = 16.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    """`attempts` is the number of tries in a row that may bring nothing; a try that brings a byte starts anew.

    The total is what Vertex AI gives a deployment at most: after that nobody waits.
    """

    attempts: int = 6
    pause_s: float = 0.25
    timeout_s: float = 30.0
    total_s: float = 2 * 60 * 60.0


class Passing(StartError):
    """A failure that another try may mend. `wait_s` is what the server asked for."""

    def __init__(self, cause: str, remedy: str, wait_s: float = 0.0) -> None:
        super().__init__(cause, remedy)
        self.wait_s = wait_s


class Watch:
    """The clock of one download, shared by its threads; `stop` ends their waiting."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._end = time.monotonic() + patience.total_s
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def check(self) -> None:
        """Raises StartError when the time is up, or when another thread of the download has failed."""
        if self._stopped.is_set():
            raise StartError("the download was stopped", "the reason stands above")
        if time.monotonic() > self._end:
            raise StartError(
                f"the artifacts did not arrive within {self.patience.total_s:g} s",
                "check the network, or make the artifacts smaller",
            )

    def wait(self, seconds: float) -> None:
        """Raises as `check` does, before and after."""
        self.check()
        self._stopped.wait(min(seconds, max(0.0, self._end - time.monotonic())))
        self.check()


class Tries:
    """Failures in a row of one piece of work."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._failures = 0

    def progressed(self) -> None:
        self._failures = 0

    def failed(self, error: Passing) -> None:
        """Wait before the next try: twice as long each time, and never at one moment with the others.

        Raises `error` when there is no next try.
        """
        patience = self._watch.patience
        self._failures += 1
        if self._failures >= patience.attempts:
            raise error
        pause = min(patience.pause_s * 2 ** (self._failures - 1), _LONGEST_PAUSE_S)
        pause *= random.uniform(0.5, 1)  # noqa: S311  no secret
        self._watch.wait(max(pause, min(error.wait_s, 4 * _LONGEST_PAUSE_S)))
