"""Bytes on their way, as lines that can be read in a log: one each few seconds, not one for each piece."""

from __future__ import annotations

import time

from cpr_kit.deploy.vertex.calls import Report

_EVERY_S = 5.0
_KILO = 1000


class Progress:
    """Counts what was sent of `total` bytes and says so at most each five seconds."""

    def __init__(self, report: Report, what: str, total: int = 0) -> None:
        self._report = report
        self._what = what
        self._total = total
        self._done = 0
        self._said = time.monotonic()

    def add(self, count: int) -> None:
        self.at(self._done + count, self._total)

    def at(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        if time.monotonic() - self._said >= _EVERY_S:
            self._said = time.monotonic()
            self._report(f"{self._what}: {megabytes(done)} of {megabytes(total)}")


def megabytes(count: int) -> str:
    """As docker says sizes.

    >>> megabytes(12_345), megabytes(12_345_678)
    ('12.3 kB', '12.3 MB')
    """
    for unit in ("B", "kB", "MB"):
        if count < _KILO:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count} B"
        count /= _KILO  # type: ignore[assignment]
    return f"{count:.2f} GB"
