"""The end of a worker in words, and how many ends are too many."""

from __future__ import annotations

import collections
import os
import signal
from dataclasses import dataclass

from cpr_kit.runtime.workers.board import End, Word

_OUT_OF_MEMORY = "give the machine more memory, or set VERTEX_CPR_WEB_CONCURRENCY to fewer workers"
_CRASH = "a native library crashed: the Python lines it was called from are above"


@dataclass(frozen=True)
class Death:
    """`cause` ends a sentence that begins with the worker."""

    cause: str
    remedy: str
    planned: bool = False


def of(status: int, word: Word | None, *, silent: float | None = None) -> Death:
    """From waitpid's status, the worker's own last word, and for how long it was silent if it was ended for that."""
    if word is not None:
        return _spoken(word)
    if silent is not None:
        return Death(
            f"did not answer for {silent:g} s, and was ended",
            "something holds Python's lock, or the process was stopped: its lines are above",
        )
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        out_of_memory = number == signal.SIGKILL
        hint = " (out of memory?)" if out_of_memory else f" ({_name(number)})"
        return Death(f"was killed by signal {number}{hint}", _OUT_OF_MEMORY if out_of_memory else _CRASH)
    code = os.WEXITSTATUS(status)
    return Death(
        f"ended with exit code {code}",
        "the model's code ended the process: look for os._exit in it, and for a library that calls exit",
    )


def _spoken(word: Word) -> Death:
    if word.end is End.LOAD_FAILED:
        cause, _, remedy = word.reason.partition(" | ")
        return Death(f"could not load the model: {cause}", remedy or "mend the cause")
    if word.end is End.HUNG:
        return Death(word.reason, "look where it hangs: the lines of every thread are above")
    return Death(word.reason, "", planned=True)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"


class Budget:
    """At most `limit` within `window` seconds."""

    def __init__(self, limit: int, window: float) -> None:
        self._limit, self._window = limit, window
        self._times: collections.deque[float] = collections.deque()

    def spend(self, now: float) -> bool:
        """Count one; False when that is one too many. `now` never goes back."""
        self._times.append(now)
        while self._times[0] <= now - self._window:
            self._times.popleft()
        return len(self._times) <= self._limit

    @property
    def spent(self) -> int:
        return len(self._times)
