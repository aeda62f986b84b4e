"""How many workers, how long they may be silent, how often they may die, how much memory each may take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cpr_kit.errors import StartError
from cpr_kit.runtime.workers import cgroup, count

_MEMORY = "CPR_SERVE_MAX_WORKER_MEMORY_MB"
_MAX_DIGITS = 9
_MEGABYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Times are in seconds, memory in bytes."""

    workers: int = 1
    heartbeat: float = 30.0  # a worker whose event loop is silent for so long is ended
    grace: float = 30.0  # so long beyond the request's time-out a synchronous call may last
    deaths: int = 5  # replacements within `window`; the next death ends the server
    window: float = 60.0
    last_call: float = 0.5  # how long a worker asked to stop still takes new connections
    drain: float = 60.0  # how long it then has for the requests that it accepted
    memory: int | None = None  # of a worker's own, beside what it shares; the container's limit decides where None
    container: int | None = None  # the container's limit
    memory_every: float = 5.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ, *, root: Path = Path("/")) -> Limits:
        """Raises StartError naming the variable and its value."""
        return cls(
            workers=count.workers(environ, count.cores(root)),
            memory=_memory(environ),
            container=cgroup.memory(root),
        )

    def for_requests(self, timeout: float) -> Limits:
        """No request that was accepted is cut off before its own time is over."""
        return replace(self, drain=max(self.drain, timeout))

    def for_application(self, environ: Mapping[str, str], timeout: float) -> Limits:
        """For an application of the author's own: it may keep state between requests, so there is one worker unless
        more are asked for, and it may compute on the server's loop for as long as a request lasts.
        """
        workers = self.workers if count.is_asked(environ) else 1
        return replace(self, workers=workers, heartbeat=max(self.heartbeat, timeout + self.grace))

    def memory_of_worker(self, shared: int) -> int | None:
        """Bytes that each worker may have of its own when `shared` are common to all; None is no limit.

        A tenth of the container is left to the kernel, to sockets, and to what a worker takes between two looks.
        """
        if self.memory is not None or self.container is None:
            return self.memory
        return max(0, int(self.container * 0.9) - shared) // self.workers


def _memory(environ: Mapping[str, str]) -> int | None:
    text = environ.get(_MEMORY, "")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > _MAX_DIGITS or not int(text):
        raise StartError(f'{_MEMORY} is "{text}"', "set it to a whole number of megabytes, or unset it")
    return int(text) * _MEGABYTE
