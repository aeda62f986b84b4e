"""Room on the disk: looked for before a download, and said when it runs out midway."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from cpr_kit.errors import StartError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoom(StartError):
    """The disk is full."""


def check(folder: Path, needed: int) -> None:
    """Raises OSError, as a write would, when `needed` bytes do not fit."""
    disk = os.statvfs(folder)
    # A file system that does not count says 0 blocks of 0.
    if disk.f_blocks and needed > disk.f_bavail * disk.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def translated(folder: Path, left: Callable[[], int]) -> Iterator[None]:
    """What the disk refuses, as a StartError; NoRoom says how much is needed and how much there is."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise StartError(f"the artifacts cannot be written: {error}", "set TMPDIR to a folder that can") from error
        free = shutil.disk_usage(folder).free
        raise NoRoom(
            f"the artifacts do not fit in {folder}: {left():,} bytes are still to come, {free:,} are free "
            f"({error.strerror})",
            "give the container a larger disk, or set TMPDIR to a folder on one",
        ) from error
