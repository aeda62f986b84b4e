"""Files and folders for the user of this program alone, whatever the umask: what is in them may be secret."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def folder(path: Path) -> None:
    """Makes it, and its parents that are missing. Raises OSError."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing or [path]):
        each.mkdir(mode=0o700, exist_ok=True)


def file(path: Path) -> None:
    """Makes an empty one where there is none. Raises OSError."""
    # One that is there is not opened: to close it would undo this process's locks on it, and SQLite's are such.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
