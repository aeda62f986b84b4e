"""What a run has made and has to take back if it cannot be finished, the last thing first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from cpr_kit.deploy.calls import Report
from cpr_kit.errors import CprError


class Undo:
    def __init__(self) -> None:
        self._acts: list[tuple[str, Callable[[], None]]] = []

    def add(self, what: str, act: Callable[[], None]) -> None:
        self._acts.append((what, act))

    def forget(self) -> None:
        """What was made has come to stay."""
        self._acts.clear()

    def run(self, report: Report) -> None:
        """Everything is tried; what cannot be taken back is said."""
        while self._acts:
            what, act = self._acts.pop()
            report(f"undo: {what}")
            try:
                act()
            except Exception as error:  # noqa: BLE001 - the first failure is the one to be raised
                report(f"could not {what}: {error}")


@contextlib.contextmanager
def undoing(report: Report) -> Iterator[Undo]:
    """Takes everything back when the block fails. An interrupted block (Ctrl-C) takes nothing back: it is run again."""
    undo = Undo()
    try:
        yield undo
    except Exception as error:
        if not isinstance(error, CprError):
            report(f"stopped by {type(error).__name__}: {error}")
        undo.run(report)
        raise
