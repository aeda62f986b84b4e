"""One worker: gunicorn's bookkeeping around the server of this process."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import functools
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from gunicorn.workers.base import Worker as GunicornWorker

from cpr_kit.runtime import startup
from cpr_kit.runtime.metrics import Metrics
from cpr_kit.runtime.model import make_handler
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.workers import ending
from cpr_kit.runtime.workers.board import Board, End, Word
from cpr_kit.runtime.workers.limits import Limits
from cpr_kit.runtime.workers.memory import Leak
from cpr_kit.runtime.workers.serving import Post, Server, application

logger = logging.getLogger("cpr_kit")

HUNG = 70


@dataclass(frozen=True, kw_only=True)
class Job:
    """What each worker serves. Without a handler it loads its own; `memory` is its limit in bytes."""

    settings: Settings
    limits: Limits
    counted: Metrics
    handler: Any = None
    memory: int | None = None


class Worker(GunicornWorker):  # type: ignore[misc]
    """Made before the fork, in the process above; `init_process` is where the new process begins."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.slot: int = self.app.board.take()
        self._server: Server | None = None
        self._asked = False

    def init_process(self) -> NoReturn:
        ending.follow(self.ppid)
        atexit._clear()  # noqa: SLF001  what the process above registered is for its own end
        with contextlib.suppress(Exception):  # a standard error that is no file
            faulthandler.enable()
        self.init_signals()
        job = self.app.job
        if self.age > job.limits.workers:  # it replaces another, and its start begins now
            startup.phases.again()
        post = WorkerPost(self, board=self.app.board, settings=job.settings, limits=job.limits)
        try:
            self._server = _server(job, post)
        except Exception as error:  # noqa: BLE001  whatever it is, the next worker would meet it too
            post.failed(error)
        if self._asked:
            ending.leave(0)
        self._server.run(list(self.sockets))
        post.gone()
        ending.leave(0)

    def init_signals(self) -> None:
        """The process above says when to stop: Ctrl-C reaches the whole group, and is its affair."""
        for number in self.SIGNALS:
            if number != signal.SIGABRT:  # faulthandler's, which then shows where a worker hangs
                signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, self.handle_exit)
        ending.unblock_signals()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._asked = True
        if self._server is not None:
            self._server.handle_exit(sig, frame)


def _server(job: Job, post: WorkerPost) -> Server:
    if job.settings.app is not None:
        from cpr_kit.runtime.asgi import OwnApp  # few servers need it, and it imports routes

        return Server(OwnApp(job.settings), job.settings, limits=job.limits, post=post)
    make = functools.partial(make_handler, job.settings) if job.handler is None else lambda: job.handler
    return Server(application(make, job.settings, job.counted), job.settings, limits=job.limits, post=post)


class WorkerPost(Post):
    """Tells the process above through the board, and ends a worker that hangs or leaks."""

    def __init__(self, worker: Worker, *, board: Board, settings: Settings, limits: Limits) -> None:
        self._worker, self._board, self._limits = worker, board, limits
        self._patience = settings.request_timeout + limits.grace
        self._leak = Leak(None)
        self._looked = 0.0

    def failed(self, error: Exception) -> NoReturn:
        self._leave(Word(End.LOAD_FAILED, ending.explain(error)), 1)

    def ready(self) -> None:
        self._leak = Leak(self._worker.app.job.memory)
        self._board.set_ready(self._worker.slot, ready=True)

    def gone(self) -> None:
        """Asked to, or for its memory, it has drained."""
        if self._board.word(self._worker.slot) is None:
            self._board.leave(self._worker.slot, Word(End.PLANNED, "was asked to stop"))

    def others_serve(self) -> bool:
        """Those that are ready; while this server asks, it is not one of them."""
        return self._board.any_ready()

    def beat(self) -> None:
        self._worker.notify()
        if os.getppid() != self._worker.ppid:  # where the kernel does not see to it
            ending.leave_at_once(1)

    def look(self, server: Server) -> None:
        now = time.monotonic()
        since = server.model.thread.busy_since()
        if since is not None and now - since > self._patience:
            self._hang(now - since)
        if server.drains or now - self._looked < self._limits.memory_every:
            return
        self._looked = now
        reason = self._leak.look()
        if reason is not None:
            logger.warning("worker %d ends and is replaced: %s", self._worker.pid, reason)
            self._board.set_ready(self._worker.slot, ready=False)
            self._board.leave(self._worker.slot, Word(End.PLANNED, f"ended because {reason}"))
            server.drain(self._limits.last_call, listening=False)

    def _hang(self, seconds: float) -> NoReturn:
        with contextlib.suppress(Exception):
            faulthandler.dump_traceback(sys.stderr)
        self._leave(Word(End.HUNG, f"was kept by one call of the model's code for {seconds:.0f} s, and ended"), HUNG)

    def _leave(self, word: Word, code: int) -> NoReturn:
        self._board.set_ready(self._worker.slot, ready=False)
        self._board.leave(self._worker.slot, word)
        ending.leave_at_once(code)
