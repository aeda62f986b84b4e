"""The one thread in which all of the author's code runs, with an event loop of its own.

Upstream runs predictors on the server's event loop: one at a time, never two threads in one model, and no
health answer meanwhile. Here they keep the first two and lose the third: the server's loop stays free.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

logger = logging.getLogger("cpr_kit")

_T = TypeVar("_T")


class ModelExit(Exception):
    """The author's code raised what ends a program, which must end neither this thread's loop nor the server."""


class ModelThread:
    """Runs coroutines on its own loop: synchronous parts one at a time, asynchronous ones interleaved."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon: a model that hangs must not keep a finished server alive.
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        while True:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # Of a task that the author's code started by itself; the loop goes on for the others.
                logger.exception("a task of the model's code ended")

    async def run(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Run `call()` there and wait here. Cancelling this cancels that, at its next await."""
        return await crossed(call, self._loop)


async def crossed(call: Callable[[], Awaitable[_T]], loop: asyncio.AbstractEventLoop) -> _T:
    """The result of `call()` run on another thread's loop, which outlives whatever `call` raises."""
    cancelled = threading.Event()

    async def run() -> _T:
        try:
            return await call()
        except asyncio.CancelledError as error:
            if cancelled.is_set():
                raise
            raise ModelExit("the model's code cancelled itself") from error
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            raise ModelExit(f"the model's code raised {error!r}") from error

    future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), loop))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancelled.set()  # before the cancellation crosses to the other loop
        future.cancel()
        raise
