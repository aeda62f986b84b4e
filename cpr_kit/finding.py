"""What a pre-flight check found: one line of `cpr doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is empty where nothing is to be done.

    A note is worth reading and no failure: something that could not be asked, or a warning. It has passed.
    """

    name: str
    passed: bool
    detail: str
    remedy: str = ""
    note: bool = False

    @classmethod
    def noted(cls, name: str, detail: str, remedy: str = "") -> Finding:
        return cls(name, True, detail, remedy, note=True)
