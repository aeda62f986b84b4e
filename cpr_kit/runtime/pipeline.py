"""A predictor's requests from bytes to bytes, in the model's thread, those that wait together in one go.

    decode ─► preprocess ─► predict (joined) ─► postprocess ─► encode

The server's loop puts calls into a queue and waits; the model's thread takes what is there whenever it is free.
Nothing polls, and nothing waits for company unless `max_batch_delay` says so.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import inspect
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from cpr_kit.runtime import metrics, rows, streaming, trace
from cpr_kit.runtime.admission import ServiceTime
from cpr_kit.runtime.batching import Batcher
from cpr_kit.runtime.pace import Never, Pace
from cpr_kit.runtime.steps import POSTPROCESS, PREDICT, PREPROCESS, QUEUE, Call, Reply, Steps
from cpr_kit.runtime.thread import ModelThread, called, guarded, tame

logger = logging.getLogger("cpr_kit")


@dataclass(frozen=True)
class Joined:
    """How far requests are joined: at most so many rows a call, and how long the first may wait for company."""

    rows: int = 1
    delay: float = 0.0


class Pipeline:
    """Serves one predictor in `thread`; tells `service`, on the server's loop, how long each turn took."""

    def __init__(
        self,
        steps: Steps,
        thread: ModelThread,
        *,
        joined: Joined,
        service: ServiceTime,
        counted: metrics.Metrics,
    ) -> None:
        self._steps = steps
        self._thread = thread
        self._delay = joined.delay
        self._service = service
        self._metrics = counted
        self._batcher: Batcher[Call] = Batcher(self._predict, self._settle, joined.rows)
        self._waiting: collections.deque[Call] = collections.deque()
        self._woken = False
        self._largest: float = 0
        self._turn = threading.Lock()
        self._interleaved = joined.rows <= 1 and _is_async(steps.predictor)
        self._limit = service.limit = max(1, joined.rows)
        may_be_here = getattr(steps.predictor, "inline", False) and not _is_async(steps.predictor) and not joined.delay
        self._pace = Pace(service) if may_be_here else Never(service)

    async def answer(self, call: Call) -> Reply | streaming.Stream:
        """Raises what the author's code raised. Cancelling it takes the call out of the queue, or off its batch."""
        done: asyncio.Future[Reply | streaming.Stream] = call.home.create_future()
        call.settle = functools.partial(_fulfil, done)
        self.submit(call)
        try:
            return await done
        except asyncio.CancelledError:
            self.abandon(call)
            raise
        finally:
            del done  # it holds the error, whose traceback holds this frame

    def submit(self, call: Call) -> None:
        """On the server's loop, as is `abandon`."""
        # What a compressed body unfolds to nobody knows yet.
        size = math.inf if b"content-encoding" in call.headers else len(call.body)
        self._largest = max(self._largest, size) if self._waiting else size
        self._waiting.append(call)
        self._metrics.queued(1)
        if not self._woken or self._delay:
            self._woken = True
            # At the end of this turn of the server's loop, so that all that it reads in one turn goes together.
            call.home.call_soon(self._start)

    def abandon(self, call: Call) -> None:
        """Take it out of the queue, or off its batch."""
        call.abandoned = True
        if self._interleaved:  # it has a task of its own, or will have one in a moment
            self._thread.call_soon(_cancel, call)

    def _start(self) -> None:
        """On the server's loop: a turn here, where turns are short and the model's thread is at rest; else there."""
        share = self._pace.share(len(self._waiting), self._largest)
        if not share:
            self._thread.call_soon(self._wake)
            return
        self._woken = False
        if self._turn.acquire(blocking=False):  # else whoever has the turn looks again when it ends
            _at_once(self._take(share, self._start))

    # From here on everything runs in the model's thread, but for the turns that `_start` takes.

    def _wake(self) -> None:
        self._woken = False
        if self._interleaved:
            while self._waiting:
                call = self._waiting.popleft()
                self._metrics.queued(-1)
                if not call.abandoned:
                    call.task = self._thread.start(self._work([call]))
        elif self._waiting and not self._wait_for_more() and self._turn.acquire(blocking=False):
            self._thread.start(self._take(self._limit, self._wake))

    def _wait_for_more(self) -> bool:
        """Whether the first call may wait a little longer for company."""
        if not self._delay or len(self._waiting) >= self._limit:
            return False
        left = self._waiting[0].mark + self._delay - time.perf_counter()
        if left > 0:
            self._thread.loop.call_later(left, self._wake)
        return left > 0

    async def _take(self, most: int, again: Callable[[], None]) -> None:
        """One turn: what waits now. Then other tasks of this loop have theirs, streams for instance."""
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), most))]
        self._metrics.queued(-len(taken))
        try:
            if taken:
                await self._work(taken)
        except BaseException as error:  # noqa: BLE001  nobody may be left without an answer
            lost = [call for call in taken if call.reply is None and call.error is None]
            for call in lost:
                call.error = tame(error, cancelled=False)
            if lost:
                self._deliver(lost)
        finally:
            self._turn.release()
            if self._waiting:
                asyncio.get_running_loop().call_soon(again)

    async def _work(self, calls: Sequence[Call]) -> None:
        began, size = time.perf_counter(), max(len(call.body) for call in calls)
        ready = []
        for call in calls:
            if call.abandoned:
                continue
            self._metrics.waited(call.spend(QUEUE))
            if pending := self._begun(call, self._steps.prepare):
                await pending
            call.spend(PREPROCESS)
            if call.error is None:
                ready.append(call)
            else:
                self._deliver([call])
        await self._batcher.run(ready)
        if not self._interleaved:
            observe = functools.partial(self._observe, here=_home(calls[0]))
            _tell(calls[0], observe, len(calls), time.perf_counter() - began, size)

    def _observe(self, requests: int, seconds: float, size: int, *, here: bool) -> None:
        self._service.observe(requests, seconds)
        self._pace.observe(seconds, size, here=here)

    def _begun(self, call: Call, step: Callable[[Call], Awaitable[None] | None]) -> Awaitable[None] | None:
        """Do one step of one call; of asynchronous code, what is left to await. What it raises is the call's error."""
        trace.current.set(call.trace)
        try:
            pending = step(call)
        except BaseException as error:  # noqa: BLE001  the author's code may raise anything
            call.error = tame(error, cancelled=False)
            return None
        return pending and self._ended(call, pending)

    async def _ended(self, call: Call, pending: Awaitable[None]) -> None:
        try:
            await guarded(pending, cancelled=lambda: self._interleaved and call.abandoned)
        except Exception as error:  # noqa: BLE001  the author's code may raise anything
            call.error = error

    async def _predict(self, calls: Sequence[Call], value: Any) -> Any:
        for call in calls:
            call.spend(QUEUE)
        trace.current.set(calls[0].trace if len(calls) == 1 else None)
        began = time.perf_counter()
        answer = await guarded(
            called(self._steps.predictor.predict, value), cancelled=lambda: self._interleaved and calls[0].abandoned
        )
        self._metrics.batch(rows.size(value), time.perf_counter() - began)
        return answer

    async def _settle(self, calls: Sequence[Call]) -> None:
        for call in calls:
            call.spend(PREDICT)
            if call.error is None:
                if pending := self._begun(call, self._steps.finish):
                    await pending
                call.spend(POSTPROCESS)
        self._deliver(calls)

    def _deliver(self, calls: Sequence[Call]) -> None:
        _tell(calls[0], _resolve, calls)


def _at_once(turn: Coroutine[Any, Any, None]) -> None:
    """Run to its end what waits for nothing: a task for it costs as much as a small model."""
    with contextlib.suppress(StopIteration):
        turn.send(None)
        turn.throw(RuntimeError("the model's code waited on the server's loop"))


def _cancel(call: Call) -> None:
    if call.task is not None:
        call.task.cancel()


def _home(call: Call) -> bool:
    """Whether this is the loop where `call` is awaited."""
    return asyncio.get_running_loop() is call.home


def _tell(call: Call, function: Callable[..., object], *arguments: Any) -> None:
    """Call `function` on the loop where `call` is awaited. That loop may have ended with the server."""
    if _home(call):
        function(*arguments)
        return
    with contextlib.suppress(RuntimeError):
        call.home.call_soon_threadsafe(function, *arguments)


def _resolve(calls: Sequence[Call]) -> None:
    for call in calls:
        try:
            if not call.abandoned and call.settle is not None:
                call.settle(call)
        except Exception:
            logger.exception("an answer could not be given")
        call.body, call.value, call.answer, call.error, call.settle = b"", None, None, None, None


def _fulfil(done: asyncio.Future[Reply | streaming.Stream], call: Call) -> None:
    if done.done():
        return
    error, call.error = call.error, None  # a traceback leads to the call, and a circle would keep its body for a while
    if error is not None:
        done.set_exception(_settable(error))
    else:
        assert call.reply is not None
        done.set_result(call.reply)


def _settable(error: Exception) -> Exception:
    """A future takes any exception but this one, which would end whatever awaits it."""
    return RuntimeError("the model's code raised StopIteration") if isinstance(error, StopIteration) else error


def _is_async(predictor: Any) -> bool:
    steps = (getattr(predictor, name, None) for name in ("preprocess", "predict", "postprocess"))
    return any(inspect.iscoroutinefunction(step) for step in steps)
