"""How a process of the server ends: with the reason told, with its parent, and without waiting for threads."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from cpr_kit.errors import CprError
from cpr_kit.runtime.importer import told

logger = logging.getLogger("cpr_kit")

_PR_SET_PDEATHSIG = 1
_ASKED_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def explain(error: BaseException) -> str:
    """Log the traceback where it says more than the reason does; the reason in one line, for whoever says it last."""
    logger.disabled = False  # a dictConfig of the author's disables loggers that it does not know
    if error.__cause__ is not None or not isinstance(error, CprError):
        logger.error("the model server cannot start", exc_info=error.__cause__ or error)
    reason = str(error) if isinstance(error, CprError) else told(error)
    return " ".join(reason.split())


def say(reason: str) -> None:
    """The last line of the log."""
    logger.disabled = False
    logger.error("%s", reason)


def leave(code: int) -> NoReturn:
    """End after what was registered with atexit. Threads are not joined: a model's may never end."""
    try:
        atexit._run_exitfuncs()  # noqa: SLF001  what os._exit leaves out and multiprocessing makes up for too
    finally:
        leave_at_once(code)


def leave_at_once(code: int) -> NoReturn:
    try:
        flush()
    finally:
        os._exit(code)


def flush() -> None:
    """Also before a fork: what stands in a buffer would be written by both processes."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Around a fork: a child that has the parent's handlers still would lose a signal meant for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED_TO_STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals() -> None:
    """In the child, once it has handlers of its own."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED_TO_STOP)


def follow(parent: int) -> None:
    """Be killed as soon as `parent` is gone, however it ended. Linux only."""
    with contextlib.suppress(OSError, AttributeError, ImportError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
