"""The process above the workers: gunicorn's arbiter, with a budget for deaths and a reason at the end.

What it adds to gunicorn, which has no place for it: the status of a worker that ended (the hook `child_exit` is not
told), the budget, time to load before heartbeats count, and signals kept for a child while it is forked.
Imported where a server starts, because gunicorn is 50 modules.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import socket
import tempfile
import time
from typing import Any, NoReturn

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.errors import HaltServer

from cpr_kit.runtime import artifacts, metrics
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.workers import death, ending, memory
from cpr_kit.runtime.workers.board import Board, End
from cpr_kit.runtime.workers.limits import Limits
from cpr_kit.runtime.workers.worker import Job, Worker

logger = logging.getLogger("cpr_kit")


def supervise(listener: socket.socket, settings: Settings, limits: Limits, *, handler: Any = None) -> NoReturn:
    """Keep workers serving on `listener` until SIGTERM or SIGINT, or until they die too often. Raises StartError."""
    if handler is not None:
        # What the collector moves or marks, a fork copies: from here on it leaves the model alone.
        gc.collect()
        gc.freeze()
    artifacts.keep(settings.serving.storage_uri)
    shared = memory.resident()
    job = Job(
        settings=settings,
        limits=limits,
        counted=metrics.make(asked=settings.metrics),
        handler=handler,
        memory=limits.memory_of_worker(shared),
    )
    Supervisor(_Application(job), listener).run()
    raise AssertionError("the supervisor ends its process")


class _Application:
    """What gunicorn calls an application: its settings, and here the board and the job too."""

    def __init__(self, job: Job) -> None:
        limits = job.limits
        self.job = job
        self.board = Board(limits.workers + 1)
        self.cfg = Config()
        options = {
            "workers": limits.workers,
            "worker_class": Worker,
            "logger_class": _Log,
            "graceful_timeout": math.ceil(limits.last_call + limits.drain) + 5,
            "worker_tmp_dir": _folder_in_memory(),
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)


def _folder_in_memory() -> str:
    """For the heartbeats: an empty file whose time is set each second, which no disk needs to hear of."""
    shared = "/dev/shm"  # noqa: S108  gunicorn makes files of random names there and unlinks them at once
    return shared if os.access(shared, os.W_OK) else tempfile.gettempdir()


class _Log:
    """gunicorn's log, on Python's. Its chatter is for whoever debugs the kit."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        log = logging.getLogger("gunicorn")
        self.debug = self.info = self.warning = log.debug
        self.error = self.critical = log.error
        self.exception = log.exception

    def close_on_exec(self) -> None:
        pass

    def reopen_files(self) -> None:
        pass


class Supervisor(Arbiter):  # type: ignore[misc]
    def __init__(self, app: _Application, listener: socket.socket) -> None:
        super().__init__(app)
        limits = app.job.limits
        self.LISTENERS = [listener]
        self.WORKERS: dict[int, Worker] = {}
        self.timeout = limits.heartbeat
        self._limits, self._board = limits, app.board
        self._counted = app.job.counted
        self._deaths = death.Budget(limits.deaths, limits.window)
        self._planned = death.Budget(limits.deaths, limits.window)
        self._unready = 0
        self._stops = False

    def spawn_worker(self) -> Any:
        ending.flush()
        try:
            with ending.signals_blocked():
                return super().spawn_worker()
        except OSError as error:
            raise HaltServer(
                f"a worker cannot be started: {error.strerror} | raise the limit on processes or open files", 1
            ) from error

    def murder_workers(self) -> None:
        """End those whose heartbeat stopped. A load may hold Python's lock for as long as it takes."""
        for worker in self.WORKERS.values():
            if not self._board.is_ready(worker.slot) and not worker.aborted:
                worker.notify()
        super().murder_workers()
        self.reap_workers()  # an orphan may have ended before there was a handler for that

    def reap_workers(self) -> None:
        """All that ended, orphans included, which fall to process 1 of a container."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            worker = self.WORKERS.pop(pid, None)
            if worker is not None:
                worker.tmp.close()
                self._reap(worker, status)

    def _reap(self, worker: Worker, status: int) -> None:
        word, was_ready = self._board.word(worker.slot), self._board.is_ready(worker.slot)
        self._board.clear(worker.slot)
        self._counted.ended(worker.pid)
        if self._stops:
            return
        self._counted.restarted()
        if word is not None and word.end is End.LOAD_FAILED and not self._board.any_ready():
            # No worker serves and the next would fail alike: better that the platform starts the container anew.
            raise HaltServer(f"cannot start: {word.reason}", 1)
        end = death.of(status, word, silent=self._limits.heartbeat if worker.aborted else None)
        now = time.monotonic()
        if end.planned and self._planned.spend(now):
            logger.info("worker %d %s: it is replaced", worker.pid, end.cause)
            return
        self._unready = 0 if was_ready or end.planned else self._unready + 1
        affordable = self._deaths.spend(now) and self._unready <= self._limits.deaths
        if not affordable:
            raise HaltServer(self._too_many(end), 1)
        logger.error("worker %d %s: it is replaced", worker.pid, end.cause)

    def _too_many(self, end: death.Death) -> str:
        times = f"{self._deaths.spent} in {self._limits.window:.0f} s"
        if self._unready > self._limits.deaths:
            times = f"{self._unready} in a row before their model was loaded"
        return f"workers keep dying: {times}; the last {end.cause} | {end.remedy or 'look for what takes its memory'}"

    def halt(self, reason: str | None = None, exit_status: int = 0) -> NoReturn:
        """Drain, and say the reason after all that the workers said."""
        self._stops = True
        self.stop()
        if reason:
            ending.say(reason)
        ending.leave(exit_status)

    def handle_int(self) -> NoReturn:
        raise StopIteration

    handle_quit = handle_int

    def _ignore(self) -> None:
        """Signals with which an operator of gunicorn reloads or resizes it; a container is replaced instead."""

    handle_hup = handle_usr1 = handle_usr2 = handle_ttin = handle_ttou = handle_winch = _ignore
