"""Where the time of a start goes: import, download, load, warm-up; one line of the log tells it when it is over."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

logger = logging.getLogger("cpr_kit")

_TOLD = ("import", "download", "load", "warm-up")
_OTHER = "other"
_LEAST_TOLD_S = 0.005
# A process older than this when it imports the kit was not started to serve; nor is its age to be believed where
# a sandbox makes /proc up.
_OLDEST_S = 600.0


class Phases:
    """A recorder: seconds by phase, from the start of the process. A phase inside another is not counted twice."""

    def __init__(self, began: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: ContextVar[list[float] | None] = ContextVar("open", default=None)
        self.again(began)

    def again(self, began: float | None = None) -> None:
        """Forget everything: a start begins now, as in a worker that replaces another."""
        self._began = self._clock() if began is None else began
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what runs in here, other phases left out, as `name`.

        What runs in other threads counts as inside when they run in a copy of this context, as asyncio's do.
        """
        if not self._seconds:
            # Until now it was the interpreter's start and the server's own imports.
            self._seconds["import"] = max(self._clock() - self._began, 0.0)
        inner = [0.0]
        outer = self._open.get()
        token = self._open.set(inner)
        began = self._clock()
        try:
            yield
        finally:
            took = self._clock() - began
            self._open.reset(token)
            self._seconds[name] = self._seconds.get(name, 0.0) + max(took - inner[0], 0.0)
            if outer is not None:
                outer[0] += took

    def seconds(self) -> dict[str, float]:
        """By phase, what is in none as "other", and "total"."""
        total = max(self._clock() - self._began, 0.0)
        told = {**dict.fromkeys(_TOLD, 0.0), **self._seconds}
        return {**told, _OTHER: max(total - sum(told.values()), 0.0), "total": total}


def age() -> float:
    """Seconds since this process started, as the kernel counts them; 0 where it does not tell."""
    try:
        # Behind the name, which may hold anything; starttime is field 22 of proc(5).
        fields = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        old = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
    return old if 0 <= old < _OLDEST_S else 0.0


phases = Phases(time.monotonic() - age())
"""Those of this process. A forked one inherits them, and so counts from the start of the first."""

phase = phases.phase


def report(where: str = "", recorder: Phases = phases) -> None:
    """One line, and the numbers as its fields. `where` says what answers now, and is told behind.

    the model is ready after 1.32 s: import 0.41, download 0.20, load 0.55, warm-up 0.16; POST /predict on port 8080
    """
    from cpr_kit.runtime import logs  # not above: `import cpr_kit` imports this file, and needs no log

    logs.revive()
    # Rounded once, so that the line and its fields never differ.
    seconds = {name: round(took, 3) for name, took in recorder.seconds().items()}
    parts = {name: took for name, took in seconds.items() if name in _TOLD or took >= _LEAST_TOLD_S}
    line = ", ".join(f"{name} {took:.2f}" for name, took in parts.items() if name != "total")
    ready = ("the model is ready after %.2f s: %s%s", seconds["total"], line, where and f"; {where}")
    logger.info(*ready, extra={"startup_seconds": seconds})
