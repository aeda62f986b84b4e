"""The form of a Dockerfile: what a builder refuses, or takes in another sense than it was written in."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from cpr_kit.build.dockerfile import FLAGS, Instruction
from cpr_kit.build.lint.finding import Finding, Rule
from cpr_kit.build.lint.subject import Subject
from cpr_kit.build.stages import Stage

SYNTAX = Rule("syntax", "the builder must be able to read the file")
EXEC = Rule("exec form", "the exec form is JSON: double quotes, commas, nothing behind it; all else is a shell's text")
LAST = Rule("last wins", "an image has one ENTRYPOINT and one CMD: of several in a stage the last counts")
PLATFORM = Rule("platform", "Vertex AI's machines for predictions run linux/amd64")
TAG = Rule("base tag", "an image that can be built again names a version of its base")
HEALTH = Rule("HEALTHCHECK", "Vertex AI asks the health route over HTTP and runs no HEALTHCHECK of the image")
DOWNLOAD = Rule("ADD", "what ADD takes from a URL nobody compares with anything")

_EXEC_KEYWORDS = ("CMD", "ENTRYPOINT", "RUN", "SHELL")
_NO_ARGUMENT = frozenset({"CMD", "ENTRYPOINT"})
_WORDS_OF_FROM = (1, 3)
_ARM = re.compile(r"arm|aarch64", re.IGNORECASE)
_HOST = ("$BUILDPLATFORM", "${BUILDPLATFORM}")
_LIST = re.compile(
    "\\[['\"\u2018\u201c]|\\[\\s*['\"\u2018\u201c][^'\"]*['\"\u2019\u201d]\\s*,|\\[[^\\s\\]]+(\\s*,\\s*[^\\s\\]]+)*\\]\\s*\\Z"
)
_DOWNLOAD = re.compile(r"(^|\s)https?://")
_VERTEX = re.compile(r"[a-z]+-docker\.pkg\.dev/vertex-ai/")
"""Images that Vertex AI publishes under `latest` alone."""


def syntax(instructions: tuple[Instruction, ...]) -> Iterator[Finding]:
    """What can be said without a plan of stages."""
    for instruction in instructions:
        keyword = instruction.keyword
        if keyword not in FLAGS:
            close = difflib.get_close_matches(keyword, FLAGS, 1, 0.6)
            hint = f"write {close[0]}" if close else f"there are {', '.join(sorted(FLAGS))}"
            yield SYNTAX.breach(instruction.line, f'"{keyword[:40]}" is no instruction', hint)
            continue
        if not instruction.text and not instruction.heredocs and keyword not in _NO_ARGUMENT:
            yield SYNTAX.breach(instruction.line, f"{keyword} has nothing behind it", f"write what {keyword} is to do")
        for name, _ in instruction.flags:
            if name not in FLAGS[keyword]:
                takes = ", ".join(f"--{flag}" for flag in sorted(FLAGS[keyword])) or "none"
                yield SYNTAX.breach(
                    instruction.line,
                    f"{keyword} has no flag --{name[:40]}",
                    f"its flags are: {takes}; a program's own stand behind the program's name",
                )
        yield from _exec_form(instruction)
        yield from _pairs(instruction)


def _exec_form(instruction: Instruction) -> Iterator[Finding]:
    keyword = instruction.keyword
    if keyword not in _EXEC_KEYWORDS or not instruction.text:
        return
    if instruction.exec is None and (keyword == "SHELL" or _meant_as_list(instruction.text)):
        yield EXEC.breach(
            instruction.line,
            f"{keyword} {_short(instruction.text)} is no JSON list of strings"
            + ("" if keyword == "SHELL" else ", so a shell gets it as it stands, brackets and all"),
            f'{keyword} ["program", "argument"], with double quotes',
        )
    elif instruction.behind_exec:
        yield EXEC.breach(
            instruction.line_of(instruction.behind_exec),
            f"{_short(instruction.behind_exec)} stands behind the exec form of {keyword}, and the builder drops it",
            "put it into the list, or use the shell form",
        )


def _meant_as_list(text: str) -> bool:
    """`[ -f x ] && y` is a test of the shell's, `['a', 'b']` a list in the wrong quotes."""
    return bool(_LIST.match(text))


def _pairs(instruction: Instruction) -> Iterator[Finding]:
    if instruction.keyword not in ("ENV", "LABEL") or not instruction.text:
        return
    for place, pair in enumerate(instruction.pairs):
        if pair.value is None:
            detail = f"{instruction.keyword} {pair.name[:40]} has no value"
            yield SYNTAX.breach(pair.line, detail, f"{instruction.keyword} NAME=value, quoted where it has spaces")
        elif place == 0 and not pair.name:
            yield SYNTAX.breach(pair.line, f"{instruction.keyword} has a value without a name", "write NAME=value")


def find(subject: Subject) -> Iterator[Finding]:
    for instruction in subject.recipe.before:
        if instruction.keyword in FLAGS and instruction.keyword != "ARG":
            detail = f"{instruction.keyword} stands above the first FROM"
            yield SYNTAX.breach(instruction.line, detail, "only ARG may stand there; move it below FROM")
    final = subject.recipe.lineage
    for stage in subject.recipe.stages:
        yield from _from(stage)
        yield from _several(stage)
        if stage in final:
            yield from _platform(stage)
            yield from _kept(stage)
        if stage in subject.recipe.reached:
            yield from _tag(stage)


def _from(stage: Stage) -> Iterator[Finding]:
    words = stage.start.words
    if words and (len(words) not in _WORDS_OF_FROM or (len(words) == 3 and words[1].text.upper() != "AS")):  # noqa: PLR2004
        yield SYNTAX.breach(stage.start.line, f"FROM {_short(stage.start.text)} is no base", "FROM IMAGE [AS NAME]")


def _several(stage: Stage) -> Iterator[Finding]:
    for keyword in ("ENTRYPOINT", "CMD"):
        found = [step.instruction for step in stage if step.instruction.keyword == keyword]
        for early in found[:-1]:
            yield LAST.note(early.line, f"this {keyword} is undone by the one on line {found[-1].line}", "remove it")


def _platform(stage: Stage) -> Iterator[Finding]:
    named = stage.platform or ""
    image = (stage.image or "").rpartition("/")[0]
    if _ARM.search(named) or image.startswith(("arm64v8", "arm32v")):
        what = f"--platform={named}" if named else stage.image
        yield PLATFORM.breach(stage.start.line, f"the image is made for {what}", "leave it out, or name linux/amd64")
    elif (stage.start.flag("platform") or "") in _HOST:
        detail = "the image is made for whatever machine builds it, an arm64 laptop too"
        yield PLATFORM.note(stage.start.line, detail, "leave --platform out, and build with --platform linux/amd64")


def _kept(stage: Stage) -> Iterator[Finding]:
    for step in stage:
        instruction = step.instruction
        if instruction.keyword == "HEALTHCHECK" and instruction.text.upper() != "NONE":
            yield HEALTH.note(
                instruction.line, "this HEALTHCHECK has no effect there", "answer 200 on the health route"
            )
        elif instruction.keyword == "ADD" and _DOWNLOAD.search(instruction.text) and not instruction.flag("checksum"):
            yield DOWNLOAD.note(instruction.line, "a download without a checksum", "ADD --checksum=sha256:... URL")


def _tag(stage: Stage) -> Iterator[Finding]:
    image = stage.image
    if image is None or stage.parent is not None or image in ("scratch", "") or "@" in image or _VERTEX.match(image):
        return
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        yield TAG.note(stage.start.line, f"{image} is another image tomorrow", "name a version, as python:3.11-slim")


def _short(text: str) -> str:
    most = 60
    return text if len(text) <= most else f"{text[: most - 3]}..."
