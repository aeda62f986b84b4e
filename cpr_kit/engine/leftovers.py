"""Notes of what a build has made in an engine so far, for the next build to remove where this one cannot.

It cannot when its program is killed, or the engine ends. A note lies in the cache until its build has ended well; while
the build runs, its lock beside it is held, which tells as much to other containers that share cache and engine.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = "unfinished"


class Note:
    """One build's note. `engine` tells engines apart: what one has made, no other has."""

    def __init__(self, folder: Path, engine: str) -> None:
        self._path = folder / f"{uuid.uuid4().hex}.json"
        self._said: dict[str, Any] = {"engine": engine}
        self._lock: int | None = None

    def write(self, images: list[str], containers: list[str]) -> None:
        """Without a place for notes there are none: a build does not fail for that."""
        self._said |= {"images": images, "containers": containers}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._lock is None:
                self._lock = _locked(self._path)
            draft = self._path.with_suffix(".draft")
            draft.write_text(json.dumps(self._said), "utf-8")
            draft.replace(self._path)

    def leave(self) -> None:
        """To the next build, of this very program too."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        for path in (self._path, _lock_of(self._path)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self.leave()


def take(folder: Path, engine: str) -> Iterator[tuple[list[str], list[str]]]:
    """Images and containers of builds on this engine whose program has ended. Each note is given once."""
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # another has just taken it, or it is none
            said = json.loads(path.read_text("utf-8"))
            if said["engine"] != engine:
                continue
            lock = _locked(path)
            if lock is None:
                continue
            try:
                path.unlink()
                _lock_of(path).unlink()
            finally:
                os.close(lock)
            yield said["images"], said["containers"]


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


def _locked(path: Path) -> int | None:
    """The note's lock, held until it is closed or this program has ended; None where another holds it."""
    descriptor = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
