"""Notes of what a build has made in an engine so far, for the next build to remove where this one cannot.

It cannot when its program is killed, or the engine ends. A note lies in the cache until its build has ended well.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpr_kit.engine.reaper import process_identity, start_time

FOLDER = "unfinished"
_NOBODY = "0 0"


class Note:
    """One build's note. `engine` tells engines apart: what one has made, no other has."""

    def __init__(self, folder: Path, engine: str) -> None:
        self._path = folder / f"{uuid.uuid4().hex}.json"
        self._said: dict[str, Any] = {"engine": engine, "program": process_identity(os.getpid())}

    def write(self, images: list[str], containers: list[str]) -> None:
        """Without a place for notes there are none: a build does not fail for that."""
        self._said |= {"images": images, "containers": containers}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(".draft")
            draft.write_text(json.dumps(self._said), "utf-8")
            draft.replace(self._path)

    def leave(self) -> None:
        """To the next build, of this very program too."""
        if self._said.get("images") or self._said.get("containers"):
            self._said["program"] = _NOBODY
            self.write(self._said["images"], self._said["containers"])

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def take(folder: Path, engine: str) -> Iterator[tuple[list[str], list[str]]]:
    """Images and containers of builds on this engine whose program has ended. Each note is given once."""
    for path in sorted(folder.glob("*.json")):
        try:
            said = json.loads(path.read_text("utf-8"))
            if said["engine"] != engine or _runs(said["program"]):
                continue
            path.unlink()
            yield said["images"], said["containers"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another program has just taken it, or it is none


def _runs(program: str) -> bool:
    process, started = program.split()
    return start_time(int(process)) == int(started)
