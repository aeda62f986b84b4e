"""Answers on the socket while the process that will start the workers loads the model.

A process of its own, because a load may hold Python's lock for long, and because a fork must find no event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time

from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.workers import ending, serving
from cpr_kit.runtime.workers.limits import Limits

_PATIENCE_S = 5.0
_LAST_CALL_S = 0.2


class Greeter:
    """A child that says 503, "the model is still loading", to everyone."""

    def __init__(self, listener: socket.socket, settings: Settings) -> None:
        parent = os.getpid()
        ending.flush()
        with ending.signals_blocked():
            self._pid = os.fork()
            if not self._pid:
                _greet(listener, settings, parent)

    def dismiss(self) -> None:
        """Return when it is gone and all that it accepted is answered. Safe twice, and from a signal handler."""
        pid, self._pid = self._pid, 0
        if not pid:
            return
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _PATIENCE_S
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.002)


def _greet(listener: socket.socket, settings: Settings, parent: int) -> None:
    try:
        ending.follow(parent)
        server = _Server(
            serving.application(lambda: None, settings), settings, limits=Limits(drain=3), post=serving.Post()
        )
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says when
        signal.signal(signal.SIGTERM, server.handle_exit)
        ending.unblock_signals()
        server.run([listener])
    finally:
        os._exit(0)


class _Server(serving.Server):
    async def _load(self) -> None:
        """Never."""

    def stop(self) -> None:
        # The connections that wait at the socket are the workers'. Those that came here may be about to ask.
        self.drain(_LAST_CALL_S, listening=False)

    async def main_loop(self) -> None:
        """No longer than there are connections: a start waits for this."""
        await self._asked.wait()
        await asyncio.sleep(0.01)  # what is accepted is not yet a connection
        while self.server_state.connections and time.monotonic() < self._ends_at:  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.01)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections:
            await super().shutdown(sockets)
