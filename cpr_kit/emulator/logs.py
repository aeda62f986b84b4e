"""Where the logs of deployed models are kept, also after the emulator has ended."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import time
from pathlib import Path

from cpr_kit.emulator import private
from cpr_kit.engine.store import Store
from cpr_kit.errors import LackingError

KEEP_DAYS = 7
_DAY_S = 86_400


def folder() -> Path:
    """A new folder for one emulator's logs; those of emulators of more than a week ago are removed."""
    root = Store.default().root / "emulator-logs"
    stamp = dt.datetime.now().strftime("%Y%m%d-%H%M%S")  # noqa: DTZ005 - for the person at this machine
    made = root / f"{stamp}-{os.getpid()}"
    try:
        private.folder(made)
    except OSError as error:
        raise LackingError(
            f"the logs cannot be kept in {root} ({error.strerror}); set CPR_CACHE to a folder that you can write to"
        ) from error
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > KEEP_DAYS * _DAY_S:
            shutil.rmtree(old, ignore_errors=True)
    return made


def close(made: Path) -> None:
    """At an emulator's end: a folder without logs is of no use to anyone."""
    with contextlib.suppress(OSError):
        made.rmdir()
