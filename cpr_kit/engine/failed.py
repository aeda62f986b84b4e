"""A build that failed, and why: the two values that the rules of `causes` and `installers` lie between."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BRANCHES = re.compile("^[\\s\u2500-\u257f\u25b2\u25b6\u00b7\u00d7]+|\\s+", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One line of why, one of what to do. `lacking`: this machine is at fault and not what was to be built."""

    what: str
    remedy: str
    lacking: bool = False


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The step, its last lines, the platform that was built for, and the engine's name."""

    step: str
    lines: tuple[str, ...]
    platform: str | None = None
    engine: str = "docker"

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    @property
    def text(self) -> str:
        return "\n".join((self.step, *self.lines))

    @property
    def flat(self) -> str:
        """In one line and without a tree's branches: uv breaks its sentences where a line is full."""
        return _BRANCHES.sub(" ", self.said)
