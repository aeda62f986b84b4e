"""What a run has made and has to take back if it cannot be finished, the last thing first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from cpr_kit.deploy.vertex.calls import Report
from cpr_kit.errors import CprError, DeployError


class Undo:
    def __init__(self) -> None:
        self._acts: list[tuple[str, Callable[[], None]]] = []

    def add(self, what: str, act: Callable[[], None]) -> None:
        self._acts.append((what, act))

    def forget(self) -> None:
        """What was made has come to stay."""
        self._acts.clear()

    def run(self, report: Report) -> list[str]:
        """Everything is tried; what could not be taken back."""
        left = []
        while self._acts:
            what, act = self._acts.pop()
            report(f"undo: {what}")
            try:
                act()
            except Exception as error:  # noqa: BLE001 - the first failure is the one to be raised
                report(f"could not {what}: {error}")
                left.append(f"could not {what}: {error}")
        return left


@contextlib.contextmanager
def undoing(report: Report) -> Iterator[Undo]:
    """Takes everything back when the block fails. An interrupted block (Ctrl-C) takes nothing back: it is run again."""
    undo = Undo()
    try:
        yield undo
    except Exception as error:
        if not isinstance(error, CprError):
            report(f"stopped by {type(error).__name__}: {error}")
        left = undo.run(report)
        if left:
            raise DeployError(
                "\n".join([str(error).partition(" | ")[0], *(f"  {each}" for each in left)]),
                "run the same command again: it goes on from what is there",
            ) from error
        raise
