"""What a look at a Dockerfile finds: where, which rule, what was read there, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["note", "breach"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`path` is empty for the Dockerfile itself. A breach fails the look, a note does not."""

    line: int
    severity: Severity
    name: str
    rule: str
    detail: str
    instead: str
    path: str = ""


@dataclass(frozen=True)
class Rule:
    """One sentence, with what of Vertex AI's or the builder's stands behind it."""

    name: str
    text: str

    def breach(self, line: int, detail: str, instead: str, *, path: str = "") -> Finding:
        return self.found("breach", (line, path), detail, instead)

    def note(self, line: int, detail: str, instead: str, *, path: str = "") -> Finding:
        return self.found("note", (line, path), detail, instead)

    def found(self, severity: Severity, where: tuple[int, str], detail: str, instead: str) -> Finding:
        line, path = where
        return Finding(
            line=line,
            severity=severity,
            name=self.name,
            rule=self.text,
            detail=_printable(detail),
            instead=_printable(instead),
            path=path,
        )


def _printable(text: str) -> str:
    """In one line, and without what would steer a terminal: an exec form's words may hold anything."""
    return "".join(character if character.isprintable() else "?" for character in text)
