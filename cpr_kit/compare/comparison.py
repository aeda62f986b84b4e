"""What a comparison has found, as plain values; nothing here asks anybody."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from cpr_kit.compare.asking import Failure
from cpr_kit.compare.figures import Difference, Figures
from cpr_kit.compare.pace import Load
from cpr_kit.compare.verdict import Limits, Verdict


@dataclass(frozen=True, kw_only=True)
class About:
    """A side. `start_s` is its container's start; without one, whether its first request found it warm is not known."""

    name: str
    kind: str
    start_s: float | None
    first_ms: float
    first_error: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`loads` has two entries for each rate, that of A and that of B."""

    a: About
    b: About
    requests: int
    figures: Figures
    failures: tuple[Failure, ...]
    loads: tuple[Load, ...]
    limits: Limits
    verdict: Verdict
    notes: tuple[str, ...] = ()
    shown: int = field(default=5, repr=False)

    @property
    def passed(self) -> bool:
        return self.verdict.passed

    @property
    def worst(self) -> tuple[Difference, ...]:
        """Rows that differ at all, the worst first."""
        differ = (each for each in self.figures.differences if each.fault or each.flipped or each.absolute)
        return tuple(differ)[: self.shown]

    def facts(self) -> dict[str, Any]:
        """As JSON has it. Shares are from 0 to 1."""
        figures = dataclasses.asdict(dataclasses.replace(self.figures, differences=()))
        del figures["differences"]
        return {
            "passed": self.passed,
            "reasons": list(self.verdict.reasons),
            "a": dataclasses.asdict(self.a),
            "b": dataclasses.asdict(self.b),
            "requests": self.requests,
            "differences": {**figures, "flip_share": self.figures.flip_share},
            "limits": dataclasses.asdict(self.limits),
            "worst": [dataclasses.asdict(each) for each in self.worst],
            "failures": [dataclasses.asdict(each) for each in self.failures],
            "loads": [dataclasses.asdict(each) for each in self.loads],
            "notes": list(self.notes),
        }
