"""The commands of a shell's text, as far as words and operators tell; nothing of it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

OPENING = frozenset({"if", "then", "elif", "else", "while", "until", "do", "!", "{", "time"})
CLOSING = frozenset({"fi", "done", "esac", "}"})
"""Words that end a compound command; what it did then, only running it would tell."""

_TOKEN = re.compile(
    r"""
      (?P<space>(?:[ \t\r]|\\\r?\n)+)
    | (?P<comment>\#[^\n]*)
    | (?P<redirect>\d*(?:>>|>\||>&|<<<|<<-?|<>|<&|[<>])|&>>?)
    | (?P<operator>&&|\|\||;;|[;|&\n()])
    | (?P<word>(?: \\. | '[^']*' | "(?:\\.|[^"\\])*" | \$\((?:[^()]|\([^()]*\))*\) | `[^`]*` | [^\s;|&()<>'"\\`] )+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_HEREDOC = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1([^\n]*)\n.*?^\t*\2$", re.DOTALL | re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_QUOTED = re.compile(r"""\\(?P<one>.)|'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"\\])*)\"""", re.DOTALL)


@dataclass(frozen=True)
class Word:
    """`text` without its quotes. `raw` is None where no shell will expand anything in it."""

    text: str
    line: int
    raw: str | None = None


@dataclass(frozen=True)
class Command:
    """A simple command: `A=b words > target`, and the operator behind it. `path` is the file it stands in."""

    words: tuple[Word, ...]
    assignments: tuple[Word, ...] = ()
    targets: tuple[Word, ...] = ()
    after: str = ""
    path: str = ""

    @property
    def line(self) -> int:
        return (self.words or self.assignments or self.targets)[0].line

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(word.text for word in self.words)


def commands(text: str, line_at: Callable[[int], int], *, path: str = "") -> tuple[Command, ...]:
    """Every simple command, those inside compound ones too. `line_at` tells the line of an offset in `text`."""
    return tuple(_commands(_HEREDOC.sub(_blanked, text), line_at, path))


def unquoted(raw: str) -> str:
    r"""What a shell makes of quotes and backslashes.

    >>> unquoted('"a b"\\ c')
    'a b c'
    """

    def plain(match: re.Match[str]) -> str:
        if match.group("double") is not None:
            return re.sub(r'\\(["\\$`\n])', r"\1", match.group("double"))
        return match.group("one") or match.group("single") or ""

    return _QUOTED.sub(plain, raw)


def _blanked(match: re.Match[str]) -> str:
    """A text in the script is no command; its line breaks stay, so that lines keep their numbers."""
    head = match.start(3) - match.start()
    whole = match.group()
    return " " * head + match.group(3) + re.sub(r"[^\n]", " ", whole[head + len(match.group(3)) :])


def _commands(text: str, line_at: Callable[[int], int], path: str) -> Iterator[Command]:
    words: list[Word] = []
    assignments: list[Word] = []
    targets: list[Word] = []
    redirected = False
    for token in _TOKEN.finditer(text):
        kind, raw = token.lastgroup, token.group()
        if kind in ("space", "comment"):
            continue
        if kind == "redirect":
            redirected = ">" in raw or "<" in raw
        elif kind == "operator":
            if words or assignments or targets:
                yield Command(tuple(words), tuple(assignments), tuple(targets), raw, path)
            words, assignments, targets, redirected = [], [], [], False
        else:
            word = Word(unquoted(raw), line_at(token.start()), raw)
            if redirected:
                targets.append(word)
                redirected = False
            elif not words and _ASSIGNMENT.match(raw):
                assignments.append(word)
            elif words or raw not in OPENING:
                words.append(word)
    if words or assignments or targets:
        yield Command(tuple(words), tuple(assignments), tuple(targets), "", path)
