"""Which files stay out of an image: .dockerignore as Docker reads it, and what never belongs into one."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cpr_kit.errors import SourceError

FILE = ".dockerignore"
ALWAYS = ("**/.git", "**/__pycache__", "**/.venv", "**/*.pyc", "**/.pytest_cache")


@dataclass(frozen=True)
class Pattern:
    """One line: `matches` looks at the path and at the folders above it, as Docker does."""

    regex: re.Pattern[str]
    exception: bool = False

    def matches(self, path: str) -> bool:
        parts = path.split("/")
        return any(self.regex.match("/".join(parts[:end])) for end in range(len(parts), 0, -1))


@dataclass(frozen=True)
class Ignore:
    """The user's patterns, of which the last that matches decides, and those no exception can undo."""

    patterns: tuple[Pattern, ...]
    always: tuple[Pattern, ...]

    @classmethod
    def read(cls, folder: Path, always: Iterable[str] = ALWAYS) -> Ignore:
        """Raises SourceError with the line of a pattern that Docker would refuse."""
        path = folder / FILE
        try:
            lines = path.read_text("utf-8-sig").splitlines() if path.is_file() else []
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(path, f"cannot be read: {error}") from error
        return cls(tuple(parse(lines, path)), tuple(parse(always, path)))

    def leaves_out(self, path: str) -> bool:
        """`path` is relative to the folder, with forward slashes."""
        if any(pattern.matches(path) for pattern in self.always):
            return True
        out = False
        for pattern in self.patterns:
            if pattern.exception == out and pattern.matches(path):
                out = not pattern.exception
        return out

    def prunes(self, path: str) -> bool:
        """Whether nothing below this folder can be wanted."""
        if any(pattern.matches(path) for pattern in self.always):
            return True
        return self.leaves_out(path) and not any(pattern.exception for pattern in self.patterns)


def parse(lines: Iterable[str], path: Path) -> Iterable[Pattern]:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or line.startswith("#"):
            continue
        exception = text.startswith("!")
        text = text[exception:].strip()
        if not text:
            raise SourceError(f"{path}:{number}", '"!" excepts nothing; write the pattern behind it')
        try:
            yield Pattern(translated(_cleaned(text)), exception)
        except (re.error, IndexError) as error:
            raise SourceError(f"{path}:{number}", f'"{text}" is no pattern: {error}') from error


def escaped(path: str) -> str:
    """The pattern that stands for exactly this path."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", path)


def _cleaned(pattern: str) -> str:
    """`./a//b/` -> `a/b`; patterns are relative to the folder even when they start with a slash."""
    clean = posixpath.normpath(pattern)
    return clean.lstrip("/") if len(clean) > 1 else clean


def translated(pattern: str) -> re.Pattern[str]:
    """A pattern of Go's filepath.Match, and `**` for any number of folders."""
    out, i = "", 0
    while i < len(pattern):
        if pattern.startswith("**", i):
            i += 2
            i += pattern.startswith("/", i)
            out += "(?:.*/)?" if i < len(pattern) else ".*"
            continue
        piece, i = _piece(pattern, i)
        out += piece
    return re.compile(out + r"\Z", re.DOTALL)


def _piece(pattern: str, i: int) -> tuple[str, int]:
    """The translation of what starts at `i`, and where it ends."""
    character = pattern[i]
    if character == "*":
        return "[^/]*", i + 1
    if character == "?":
        return "[^/]", i + 1
    if character == "[":
        return _character_class(pattern, i)
    if character == "\\":
        return re.escape(pattern[i + 1]), i + 2
    return re.escape(character), i + 1


def _character_class(pattern: str, i: int) -> tuple[str, int]:
    """`[a-z]`, `[^a-z]`; a backslash takes the next character as it is."""
    end, out = i + 1, "["
    if pattern[end] == "^":
        out, end = out + "^", end + 1
    start = end
    while pattern[end] != "]" or end == start:
        if pattern[end] == "\\":
            out, end = out + re.escape(pattern[end + 1]), end + 2
        else:
            out, end = out + (pattern[end] if pattern[end] == "-" else re.escape(pattern[end])), end + 1
    return out + "]", end + 1
