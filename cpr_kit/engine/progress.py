"""What an image builder prints -> the step it is at. Knows BuildKit's plain output and the classic builder's."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from cpr_kit.errors import BuildError

TAIL = 20
"""So many last lines of a step are kept."""

_MAX_VERTICES = 500
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CLASSIC = re.compile(r"Step (\d{1,9})/(\d{1,9}) : (.*)", re.ASCII)
_VERTEX = re.compile(r"#(\d{1,9}) (.*)", re.ASCII)
_BRACKET = re.compile(r"\[(?:(\S+) )?(\d{1,9})/(\d{1,9})\] (.*)", re.ASCII)
_CLOCK = re.compile(r"\d+\.\d+ ?", re.ASCII)
_NOISE = re.compile(r"( ---> |Removing intermediate container |Sending build context |sha256:|transferring |DONE\b)")


@dataclass
class Step:
    """One instruction of a build. `number` is 0 for what a builder does around the instructions."""

    title: str
    number: int = 0
    total: int = 0
    stage: str = ""
    cached: bool = False
    error: str | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))

    def __str__(self) -> str:
        if not self.number:
            return self.title
        stage = f" of {self.stage}" if self.stage else ""
        return f"step {self.number}/{self.total}{stage}: {self.title}"


def plain(line: str) -> str:
    """The line without colours; the classic builder paints what comes from standard error."""
    return _ANSI.sub("", line).rstrip()


class Steps:
    """Feed it a builder's lines, one by one, as they come.

    >>> steps = Steps()
    >>> str(steps.feed("#7 [requirements 2/3] RUN pip install numpy"))
    'step 2/3 of requirements: RUN pip install numpy'
    """

    def __init__(self) -> None:
        self.current: Step | None = None
        self._before: deque[str] = deque(maxlen=TAIL)
        self._vertices: OrderedDict[str, Step] = OrderedDict()
        self._repeating = False

    def feed(self, line: str) -> Step | None:
        """Take one line; the step that it belongs to, None before the first."""
        line = plain(line)
        if match := _VERTEX.match(line):
            self._vertex(match[1], match[2])
        elif match := _CLASSIC.match(line):
            self.current = Step(match[3], int(match[1]), int(match[2]))
        elif line.startswith("------"):
            # After an error BuildKit says the last lines again, between two such rules.
            self._repeating = not self._repeating
        elif self.current and not self._repeating:
            self._plain(self.current, line)
        elif line and not self._repeating:
            self._before.append(line)
        return self.current

    @property
    def failed(self) -> Step | None:
        """The step that reported an error, else the current one: BuildKit runs several at once."""
        return next((step for step in self._vertices.values() if step.error), self.current)

    def error(self) -> BuildError:
        """The failure so far, as an error."""
        step = self.failed
        if step is None:
            return BuildError("the start of the build", tuple(self._before))
        said = any(step.error in line for line in step.tail) if step.error else True
        last = () if said else (str(step.error),)
        return BuildError(str(step), (*step.tail, *last))

    def _vertex(self, key: str, text: str) -> None:
        if self._repeating:
            return
        step = self._vertices.get(key)
        if step is None:
            step = _opened(text)
            self._vertices[key] = step
            if len(self._vertices) > _MAX_VERTICES:
                self._vertices.popitem(last=False)
            self.current = step
            return
        self.current = step
        if text == "CACHED":
            step.cached = True
        elif text.startswith("ERROR"):
            step.error = text.removeprefix("ERROR").lstrip(": ")
        elif not text.startswith("[") and not _NOISE.match(text):
            step.tail.append(_CLOCK.sub("", text, count=1) if _CLOCK.match(text) else text)

    @staticmethod
    def _plain(step: Step, line: str) -> None:
        if line.strip() == "---> Using cache":
            step.cached = True
        elif line and not _NOISE.match(line):
            step.tail.append(line)


def _opened(text: str) -> Step:
    match = _BRACKET.match(text)
    if match is None:
        return Step(text)
    return Step(match[4], int(match[2]), int(match[3]), stage=match[1] or "")
