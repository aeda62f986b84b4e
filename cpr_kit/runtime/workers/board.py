"""Shared memory between the workers and the process above them: who serves, and the last words of who ended."""

from __future__ import annotations

import enum
import mmap
from dataclasses import dataclass

_SLOT = 4096
_READY, _KIND, _LENGTH, _TEXT = 0, 1, 2, 4


class End(enum.IntEnum):
    """Why a worker ended, in its own word."""

    PLANNED = 1
    LOAD_FAILED = 2
    HUNG = 3


@dataclass(frozen=True)
class Word:
    end: End
    reason: str


class Board:
    """A slot for each worker. Slots are taken and cleared above, and written by the worker that has them."""

    def __init__(self, slots: int) -> None:
        self._memory = mmap.mmap(-1, slots * _SLOT)
        self._free = set(range(slots))

    def take(self) -> int:
        slot = min(self._free)
        self._free.discard(slot)
        return slot

    def clear(self, slot: int) -> None:
        """Forget the worker that had this slot."""
        self._memory[slot * _SLOT : (slot + 1) * _SLOT] = bytes(_SLOT)
        self._free.add(slot)

    def is_ready(self, slot: int) -> bool:
        return bool(self._memory[slot * _SLOT + _READY])

    def set_ready(self, slot: int, *, ready: bool) -> None:
        self._memory[slot * _SLOT + _READY] = ready

    def any_ready(self) -> bool:
        return any(self._memory[_READY::_SLOT])

    def leave(self, slot: int, word: Word) -> None:
        start = slot * _SLOT
        text = word.reason.encode(errors="replace")[: _SLOT - _TEXT]
        self._memory[start + _TEXT : start + _TEXT + len(text)] = text
        self._memory[start + _LENGTH : start + _TEXT] = len(text).to_bytes(2, "little")
        self._memory[start + _KIND] = word.end  # last: a process may be killed at any line

    def word(self, slot: int) -> Word | None:
        start = slot * _SLOT
        kind = self._memory[start + _KIND]
        length = int.from_bytes(self._memory[start + _LENGTH : start + _TEXT], "little")
        text = self._memory[start + _TEXT : start + _TEXT + length]
        return Word(End(kind), text.decode(errors="replace")) if kind else None
