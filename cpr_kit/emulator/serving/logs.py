"""A replica's log in a file, line by line as it is written, kept when its container is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from cpr_kit.engine.protocol import Container
from cpr_kit.errors import CprError

# How long an engine may take to notice the end of a container whose log has ended.
_LAG_S = 0.1


class LogFile:
    """Follows one container after another. `ended` is called from a thread when a container has ended.

    `said` gets each of a container's lines, as the file does.
    """

    def __init__(
        self,
        path: Path,
        *,
        ended: Callable[[], None],
        report: Callable[[str], None],
        said: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path = path
        self._said = said
        self._ended = ended
        self._report = report
        self._follower: _Follower | None = None

    def note(self, text: str) -> None:
        """What no container wrote, and whoever reads the log has to know."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def follow(self, container: Container) -> None:
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._follower = _Follower(container, self.path, self._ended, self._report, self._said)

    def again(self) -> None:
        """The container was started again."""
        if self._follower:
            self._follower.again()

    def close(self) -> None:
        """Once the container is removed: what is still missing is written."""
        if self._follower:
            self._follower.close()
            self._follower = None


class _Follower:
    def __init__(
        self,
        container: Container,
        path: Path,
        ended: Callable[[], None],
        report: Callable[[str], None],
        said: Callable[[str], None],
    ) -> None:
        self._said = said
        self._container = container
        self._path = path
        self._ended = ended
        self._report = report
        self._written = 0
        self._closed = False
        self._again = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cpr-log", daemon=True)
        self._thread.start()

    def again(self) -> None:
        self._again.set()

    def close(self) -> None:
        self._closed = True
        self._again.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._path.open("a", encoding="utf-8", buffering=1) as file:
                self._follow(file)
                if said := self._container.logs():
                    self._write(file, said.removesuffix("\n").split("\n"))
        except (CprError, OSError) as error:
            self._report(f"the log {self._path} is incomplete: {error}")
            self._ended()  # nobody else would notice the container's end before the next health check

    def _follow(self, file: TextIO) -> None:
        while True:
            self._again.clear()
            if self._closed:
                return
            self._write(file, self._container.follow())
            if self._container.status() == "running":
                # Started again already, or the engine has not noticed its end, or it broke off: the log tells it all
                # once more.
                self._again.wait(_LAG_S)
                continue
            self._ended()
            self._again.wait()

    def _write(self, file: TextIO, lines: Iterable[str]) -> None:
        """A log is told from its start each time; the lines that the file has are passed over."""
        for number, line in enumerate(lines):
            if number >= self._written:
                file.write(f"{line}\n")
                self._said(line)
                self._written = number + 1
