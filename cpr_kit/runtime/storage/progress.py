"""How much of each piece of a download has been written, in a file that outlives a killed process."""

from __future__ import annotations

import os
import sys
from array import array
from pathlib import Path


class Progress:
    """One 64-bit count a piece. A count is written after its bytes, so it never promises what is not there.

    No fsync: what a killed process wrote stays; after a crash of the whole machine the checksums decide.
    """

    def __init__(self, path: Path, pieces: int) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        length = pieces * 8
        if os.fstat(self._file).st_size != length:
            os.ftruncate(self._file, 0)
            os.ftruncate(self._file, length)
        self._counts = array("Q", os.pread(self._file, length, 0))

    def __getitem__(self, piece: int) -> int:
        return self._counts[piece]

    def __setitem__(self, piece: int, count: int) -> None:
        self._counts[piece] = count
        os.pwrite(self._file, count.to_bytes(8, sys.byteorder), piece * 8)

    def close(self) -> None:
        os.close(self._file)
