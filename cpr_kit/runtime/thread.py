"""The one thread in which all of the author's code runs, with an event loop of its own.

Upstream runs predictors on the server's event loop: one at a time, never two threads in one model, and no
health answer meanwhile. Here they keep the first two and lose the third: the server's loop stays free.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

logger = logging.getLogger("cpr_kit")

_T = TypeVar("_T")


class ModelExit(Exception):
    """The author's code raised what ends a program, which must end neither this thread's loop nor the server."""


class ModelThread:
    """Runs coroutines on its own loop: synchronous parts one at a time, asynchronous ones interleaved."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._asked: float | None = None
        # A daemon: a model that hangs must not keep a finished server alive.
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # Of a task that the author's code started by itself; the loop goes on for the others.
                logger.exception("a task of the model's code ended")

    async def run(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Run `call()` there and wait here. Cancelling this cancels that, at its next await."""
        return await crossed(call, self.loop)

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """From any thread."""
        self.loop.call_soon_threadsafe(function, *arguments)

    def start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """From this thread: a task that is kept until it is done."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def busy_since(self) -> float | None:
        """The monotonic time since when a synchronous call has kept this thread; None while it is free.

        Asked now and then: each call looks whether the thread has answered the one before.
        """
        if self._asked is None:
            self._asked = time.monotonic()
            self.call_soon(self._answered)
            return None
        return self._asked

    def _answered(self) -> None:
        self._asked = None


async def beside(function: Callable[[], _T]) -> _T:
    """What `function()` returns, in a thread of its own, which keeps no finished server alive.

    Raises ModelExit for what would end the program.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(value: Any, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)

    def work() -> None:
        value, error = None, None
        try:
            value = function()
        except BaseException as raised:  # noqa: BLE001  the author's code may raise anything
            error = tame(raised, cancelled=False)
        with contextlib.suppress(RuntimeError):  # the server has ended meanwhile
            loop.call_soon_threadsafe(settle, value, error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="import", daemon=True).start()
    return await done


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, which is woken from another thread in half the time."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def called(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the author's function returns, sync or async."""
    value = function(*arguments)
    return await value if is_awaitable(value) else value


def is_awaitable(value: Any) -> bool:
    """Without what `isinstance` of an abstract class costs for each answer of each model."""
    return hasattr(type(value), "__await__")


def tame(error: BaseException, *, cancelled: bool) -> Exception:
    """What the author's code raised, as an exception that ends neither a task nor the program.

    Raises it again if it is the cancellation that this kit asked for.
    """
    if isinstance(error, Exception):
        return error
    if isinstance(error, asyncio.CancelledError):
        if cancelled:
            raise error
        tamed = ModelExit("the model's code cancelled itself")
    else:
        tamed = ModelExit(f"the model's code raised {type(error).__name__}")
    tamed.__cause__ = error
    return tamed


async def guarded(work: Awaitable[_T], *, cancelled: Callable[[], bool] = lambda: False) -> _T:
    """Await the author's code. Raises ModelExit for what would end a task or the program."""
    try:
        return await work
    except BaseException as error:
        tamed = tame(error, cancelled=cancelled())
        if tamed is not error:
            raise tamed from error
        del tamed  # else this frame and the error's traceback hold each other
        raise


async def crossed(call: Callable[[], Awaitable[_T]], loop: asyncio.AbstractEventLoop) -> _T:
    """The result of `call()` run on another thread's loop, which outlives whatever `call` raises."""
    cancelled = threading.Event()

    async def run() -> _T:
        return await guarded(_made(call), cancelled=cancelled.is_set)

    future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), loop))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancelled.set()  # before the cancellation crosses to the other loop
        future.cancel()
        raise


async def _made(call: Callable[[], Awaitable[_T]]) -> _T:
    return await call()
