"""A worker's own memory: what it would give back by ending, without the pages it shares with the other workers."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

logger = logging.getLogger("cpr_kit")

_MEGABYTE = 1 << 20
_PRIVATE = re.compile(r"^Private_\w+:\s+(\d+) kB", re.MULTILINE)


def resident(process: int | str = "self") -> int:
    """Bytes, shared pages included; one read of a short line. 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def private(process: int | str = "self") -> int:
    """Bytes that belong to this process alone; the kernel walks the page tables for it. 0 where it does not say."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(size) for size in _PRIVATE.findall(text)) * 1024


class Leak:
    """Looks whether this process has outgrown `limit` bytes of its own since it was made, after the warm-up."""

    def __init__(self, limit: int | None) -> None:
        level = private() if limit is not None else 0
        if limit is not None and level >= limit:
            # A replacement would be as large. What is left is the kernel's own limit.
            logger.warning(
                "this worker takes %d MB from the start, and its limit is %d MB: no worker is replaced for its memory",
                level // _MEGABYTE,
                limit // _MEGABYTE,
            )
            limit = None
        self._limit, self._level = limit, level

    def look(self) -> str | None:
        """The reason why this worker should be replaced; None while there is none."""
        if self._limit is None or resident() <= self._limit or (own := private()) <= self._limit:
            return None
        before, now, limit = (size // _MEGABYTE for size in (self._level, own, self._limit))
        return f"its memory has grown from {before} MB to {now} MB, over its limit of {limit} MB"
