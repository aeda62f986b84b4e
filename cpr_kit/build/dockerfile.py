"""A Dockerfile as BuildKit reads it: instructions, and the lines that they stand on. Reading never fails.

What a builder would refuse outright is a `Problem`; the rest of the file is read all the same, so that one look
finds every fault.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cpr_kit.errors import SourceError

FLAGS: Mapping[str, frozenset[str]] = {
    "ADD": frozenset({"checksum", "chmod", "chown", "exclude", "keep-git-dir", "link", "unpack"}),
    "ARG": frozenset(),
    "CMD": frozenset(),
    "COPY": frozenset({"chmod", "chown", "exclude", "from", "link", "parents"}),
    "ENTRYPOINT": frozenset(),
    "ENV": frozenset(),
    "EXPOSE": frozenset(),
    "FROM": frozenset({"platform"}),
    "HEALTHCHECK": frozenset({"interval", "retries", "start-interval", "start-period", "timeout"}),
    "LABEL": frozenset(),
    "MAINTAINER": frozenset(),
    "ONBUILD": frozenset(),
    "RUN": frozenset({"device", "mount", "network", "security"}),
    "SHELL": frozenset(),
    "STOPSIGNAL": frozenset(),
    "USER": frozenset(),
    "VOLUME": frozenset(),
    "WORKDIR": frozenset(),
}
"""Every instruction that there is, with the flags that it takes."""

_ESCAPES = ("\\", "`")
_HEREDOC_KEYWORDS = ("ADD", "COPY", "RUN")
_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(\S*)")
_KEYWORD = re.compile(r"\s*(\S+)\s*")
_FLAG = re.compile(r"--([^\s=\"']+)(?:=((?:\"[^\"]*\"|'[^']*'|[^\s\"'])*))?(?:\s+|\Z)")
_HEREDOC = re.compile(r"\d*<<(-?)(['\"]?)([A-Za-z_][\w.-]*)\2\Z")


@dataclass(frozen=True)
class Problem:
    """What a builder stops at."""

    line: int
    text: str


@dataclass(frozen=True)
class Heredoc:
    """Text that stands below its instruction; `line` is its first."""

    name: str
    text: str
    line: int

    def line_at(self, offset: int) -> int:
        return self.line + self.text.count("\n", 0, offset)


@dataclass(frozen=True)
class Word:
    """One word of an instruction, quotes and all, and the line on which it begins."""

    text: str
    line: int


@dataclass(frozen=True)
class Pair:
    """NAME=VALUE of ENV, ARG or LABEL, quotes and all; no value where an ARG has no default."""

    name: str
    value: str | None
    line: int


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """`text` is what follows keyword and flags, continuations joined, comments left out."""

    keyword: str
    line: int
    last_line: int
    text: str = ""
    flags: tuple[tuple[str, str], ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    escape: str = "\\"
    starts: tuple[tuple[int, int], ...] = ()
    """Where in `text` a line of the file begins, and its number."""

    def line_at(self, offset: int) -> int:
        place = bisect.bisect_right(self.starts, offset, key=lambda start: start[0]) - 1
        return self.starts[place][1] if place >= 0 else self.line

    def line_of(self, part: str) -> int:
        """The line on which a part of the text begins; the instruction's own where it is no part of it."""
        return self.line_at(max(self.text.find(part), 0))

    def flag(self, name: str) -> str | None:
        return dict(self.flags).get(name)

    @property
    def exec(self) -> tuple[str, ...] | None:
        """The words of the exec form, and nothing of what stands behind it; None for the shell form."""
        return self._exec[0]

    @property
    def behind_exec(self) -> str:
        """What stands behind the exec form: builders drop it without a word."""
        words, end = self._exec
        return "" if words is None else self.text[end:].strip()

    @property
    def _exec(self) -> tuple[tuple[str, ...] | None, int]:
        if not self.text.startswith("["):
            return None, 0
        try:
            words, end = json.JSONDecoder().raw_decode(self.text)
        except (ValueError, RecursionError):
            return None, 0
        return (tuple(words), end) if all(isinstance(word, str) for word in words) else (None, 0)

    @property
    def words(self) -> tuple[Word, ...]:
        """Of FROM, COPY, EXPOSE and the like, and of every exec form."""
        listed = self.exec
        if listed is None:
            return tuple(Word(found.group(), self.line_at(found.start())) for found in re.finditer(r"\S+", self.text))
        words, offset = [], 0
        for word in listed:
            offset = max(self.text.find(json.dumps(word, ensure_ascii=False)[1:-1], offset), offset)
            words.append(Word(word, self.line_at(offset)))
        return tuple(words)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Of ENV, ARG and LABEL, the old form `ENV NAME VALUE` too."""
        found = list(_quoted_words(self.escape).finditer(self.text))
        if self.keyword != "ARG" and found and "=" not in found[0].group():
            name, *value = self.text.split(maxsplit=1)
            return (Pair(name, value[0] if value else None, self.line_at(0)),)
        return tuple(_pair(match.group(), self.line_at(match.start())) for match in found)


@dataclass(frozen=True)
class Dockerfile:
    """All instructions in their order, and what kept some from being read."""

    instructions: tuple[Instruction, ...]
    problems: tuple[Problem, ...] = ()


def read(path: Path) -> Dockerfile:
    """Raises SourceError for a file that is no text."""
    try:
        return parse(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SourceError(path, f"is not UTF-8: {error}") from error
    except OSError as error:
        raise SourceError(path, f"cannot be read: {error.strerror}") from error


def parse(text: str) -> Dockerfile:
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    problems: list[Problem] = []
    escape = _escape(lines, problems)
    return Dockerfile(tuple(_instructions(lines, escape, problems)), tuple(problems))


def _escape(lines: list[str], problems: list[Problem]) -> str:
    """The character of a directive `# escape=`, which stands above all else."""
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.match(line.lstrip())
        if match is None:
            break
        if match.group(1).lower() == "escape":
            if match.group(2) in _ESCAPES:
                return match.group(2)
            problems.append(Problem(number, f'the escape directive says "{match.group(2)}"; it is \\ or `'))
            break
    return "\\"


def _instructions(lines: list[str], escape: str, problems: list[Problem]) -> Iterator[Instruction]:
    position = 0
    while position < len(lines):
        if _says_nothing(lines[position]):
            position += 1
            continue
        first = position + 1
        text, starts, position = _joined(lines, position, escape)
        keyword, flags, rest = _split(text)
        heredocs: list[Heredoc] = []
        for name, tabs in _announced(keyword, text[rest:], escape):
            body, after = _body(lines, position, name, tabs=tabs)
            if body is None:
                problems.append(Problem(first, f'the text that "<<{name}" announces has no line "{name}" at its end'))
            heredocs.append(Heredoc(name, body or "", position + 1))
            position = after
        yield Instruction(
            keyword=keyword,
            line=first,
            last_line=position,
            text=text[rest:].rstrip(),
            flags=flags,
            heredocs=tuple(heredocs),
            escape=escape,
            starts=tuple((max(offset - rest, 0), line) for offset, line in starts),
        )


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _joined(lines: list[str], position: int, escape: str) -> tuple[str, list[tuple[int, int]], int]:
    """The line at `position` with its continuations, where each begins in it, and the position after them."""
    continued = re.compile(rf"(?<!{re.escape(escape)}){re.escape(escape)}[ \t]*\Z")
    text, starts = "", list[tuple[int, int]]()
    while position < len(lines):
        line = lines[position]
        position += 1
        if starts and _says_nothing(line):
            continue
        starts.append((len(text), position))
        match = continued.search(line)
        text += line[: match.start()] if match else line
        if match is None:
            break
    return text, starts, position


def _split(text: str) -> tuple[str, tuple[tuple[str, str], ...], int]:
    """The keyword, its flags, and where the rest begins."""
    match = _KEYWORD.match(text)
    if match is None:
        return "", (), len(text)
    flags, rest = [], match.end()
    while found := _FLAG.match(text, rest):
        flags.append((found.group(1), (found.group(2) or "").strip("\"'")))
        rest = found.end()
    return match.group(1).upper(), tuple(flags), rest


def _announced(keyword: str, text: str, escape: str) -> Iterator[tuple[str, bool]]:
    """The names of the texts that follow below, and whether tabs before them do not count."""
    if keyword in _HEREDOC_KEYWORDS:
        for word in _quoted_words(escape).findall(text):
            if match := _HEREDOC.match(word):
                yield match.group(3), bool(match.group(1))


def _body(lines: list[str], position: int, name: str, *, tabs: bool) -> tuple[str | None, int]:
    for end in range(position, len(lines)):
        if (lines[end].lstrip("\t") if tabs else lines[end]) == name:
            return "".join(f"{line}\n" for line in lines[position:end]), end + 1
    return None, len(lines)


def _quoted_words(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    return re.compile(rf"""(?:{e}.|{e}\Z|"(?:{e}.|[^"{e}])*(?:"|\Z|{e}\Z)|'[^']*(?:'|\Z)|[^\s"'{e}])+""", re.DOTALL)


def _pair(word: str, line: int) -> Pair:
    name, separator, value = word.partition("=")
    return Pair(name, value if separator else None, line)
