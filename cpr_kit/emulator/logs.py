"""Where the logs of deployed models are kept, also after the emulator has ended."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import time
from pathlib import Path

from cpr_kit.engine.store import Store

KEEP_DAYS = 7
_DAY_S = 86_400


def folder() -> Path:
    """A new folder for one emulator's logs; those of emulators of more than a week ago are removed."""
    root = Store.default().root / "emulator-logs"
    root.mkdir(parents=True, exist_ok=True)
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > KEEP_DAYS * _DAY_S:
            shutil.rmtree(old, ignore_errors=True)
    stamp = dt.datetime.now().strftime("%Y%m%d-%H%M%S")  # noqa: DTZ005 - for the person at this machine
    made = root / f"{stamp}-{os.getpid()}"
    made.mkdir(exist_ok=True)
    return made
