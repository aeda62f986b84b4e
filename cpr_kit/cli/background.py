"""The one emulator that `cpr emulate --env` leaves in the background: started, found again, stopped."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpr_kit.cli.terminal import note
from cpr_kit.errors import LackingError, UsageError

_STOP_S = 60
_TAIL = 15
_POLL_S = 0.05


class Background:
    """`folder` has what is known of it. Whoever serves holds a lock there, so that no crash leaves a lie behind."""

    def __init__(self, folder: Path) -> None:
        self._lock = folder / "serving.lock"
        self._turn = folder / "starting.lock"
        self._facts = folder / "emulator.json"
        self._log = folder / "emulator.log"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @classmethod
    def default(cls) -> Background:
        """In the kit's cache; one for each user."""
        from cpr_kit.engine.store import Store

        return cls(Store.default().root / "emulator")

    def started(self, arguments: list[str]) -> dict[str, str]:
        """The variables of the one that runs; started with `arguments` where there is none."""
        with _locked(self._turn):
            facts = self._running()
            if facts is None:
                return self._start(arguments)
        if arguments and arguments != facts["arguments"]:
            words = " ".join(facts["arguments"]) or "no options"
            raise UsageError(f"an emulator runs already, with {words}; end it first: cpr emulate --stop")
        return dict(facts["environment"])

    def stop(self) -> bool:
        """Returns once it has ended and its containers with it; whether there was one."""
        with _locked(self._turn):
            facts = self._running()
            if facts is None:
                return False
            with contextlib.suppress(ProcessLookupError):
                os.kill(facts["pid"], signal.SIGTERM)
            deadline = time.monotonic() + _STOP_S
            while self._is_serving():
                if time.monotonic() > deadline:
                    raise LackingError(
                        f"the emulator (process {facts['pid']}) still runs after {_STOP_S} s; its log: {self._log}"
                    )
                time.sleep(_POLL_S)
        return True

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """In the background's own process, around the whole emulator: `stop` waits until the block has ended."""
        with _locked(self._lock, wait=False):
            yield

    @contextlib.contextmanager
    def known(self, ready: int, environment: dict[str, str], arguments: list[str]) -> Iterator[None]:
        """Inside `holding`: shells may use it while the block runs. Says so once on the descriptor `ready`."""
        facts = json.dumps({"pid": os.getpid(), "environment": environment, "arguments": arguments})
        _write(self._facts, facts)
        try:
            with os.fdopen(ready, "w") as starter:
                starter.write(facts)
            yield
        finally:
            self._facts.unlink(missing_ok=True)

    def _start(self, arguments: list[str]) -> dict[str, str]:
        self._facts.unlink(missing_ok=True)
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "cpr_kit", "emulate", "--ready-fd", str(writing), *arguments]
        with self._log.open("wb") as log, os.fdopen(reading) as answer:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writing], start_new_session=True
            )
            os.close(writing)
            try:
                facts = answer.read()  # until it is ready, or has ended
            except BaseException:
                process.terminate()
                raise
        if not facts:
            code = process.wait()
            lines = self._log.read_text(errors="replace").splitlines()[-_TAIL:]
            raise LackingError("\n".join([f"the emulator ended with exit code {code}; its last lines:", *lines]))
        note(f"an emulator runs in the background; its calls: {self._log}; its end: cpr emulate --stop")
        return dict(json.loads(facts)["environment"])

    def _running(self) -> dict[str, Any] | None:
        if not self._is_serving():
            return None
        try:
            facts: dict[str, Any] = json.loads(self._facts.read_text())
        except (OSError, ValueError) as error:
            raise LackingError(f"an emulator is just starting or ending ({error}); try again") from error
        return facts

    def _is_serving(self) -> bool:
        with self._lock.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise LackingError("another emulator serves in the background; end it first: cpr emulate --stop") from error
        yield


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and for this user alone."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
