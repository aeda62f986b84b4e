"""A request's hold on its time: ended at the deadline, or when its client has gone."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

_WATCH_AFTER_S = 0.02
"""A request that is answered sooner needs nobody who looks whether its client is still there."""
_MARGIN = 0.05
_MAX_MARGIN_S = 0.25


def margin(timeout: float) -> float:
    """How long before its deadline a request is given up, so that its caller knows in time."""
    return min(timeout * _MARGIN, _MAX_MARGIN_S)


class Leash:
    """Cancels the task that made it. `pulled` tells that cancellation from any other; `expired` why it came.

    The time counts from here, less a margin in which the refusal reaches the caller before its deadline.
    """

    __slots__ = (
        "_deadline",
        "_late",
        "_loop",
        "_receive",
        "_task",
        "_timer",
        "_watched",
        "_watcher",
        "expired",
        "pulled",
    )

    def __init__(self, timeout: float, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        now = self._loop.time()
        self._deadline = now + timeout - margin(timeout)
        self._late = self._watched = False
        self._watcher: asyncio.Task[None] | None = None
        self.pulled = self.expired = False
        # One timer for most requests, which are answered before it runs out.
        self._timer = self._loop.call_at(min(now + _WATCH_AFTER_S, self._deadline), self._look)

    def watch(self) -> None:
        """The body has been read, so that whatever comes now is the client's leaving."""
        self._watched = True
        if self._late:
            self._start()

    def release(self) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_at(self._deadline, self._expire)
        self._late = True
        if self._watched:
            self._start()

    def _start(self) -> None:
        if self._watcher is None:
            self._watcher = self._loop.create_task(self._wait_for_the_end())

    async def _wait_for_the_end(self) -> None:
        if (await self._receive())["type"] == "http.disconnect":
            self._pull()

    def _expire(self) -> None:
        self.expired = True
        self._pull()

    def _pull(self) -> None:
        self.pulled = True
        self._task.cancel()
