"""Whether the files that COPY and ADD name are there to be copied."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from cpr_kit.build.dockerfile import Word
from cpr_kit.build.lint import files
from cpr_kit.build.lint.files import Copied, Files
from cpr_kit.build.lint.finding import Finding, Rule
from cpr_kit.build.lint.subject import Subject
from cpr_kit.build.stages import Stage, Step

SOURCE = Rule("source", "COPY takes files of the folder that is built from, less what .dockerignore leaves out")
STAGE = Rule("stage", "COPY --from takes files of an earlier stage, or of an image")
TARGET = Rule("target", "several sources need a folder to go to")
HEREDOC = Rule("heredoc", "text below an instruction needs the builder of Docker 23 or newer")


def find(subject: Subject) -> Iterator[Finding]:
    copied = [each for stage in subject.recipe.stages for each in files.copies(stage)]
    for stage in subject.recipe.stages:
        for step in stage:
            yield from _form(subject, stage, step)
    if subject.files is not None:
        yield from _sources(subject.files, copied)


def _form(subject: Subject, stage: Stage, step: Step) -> Iterator[Finding]:
    instruction = step.instruction
    if instruction.heredocs:
        name = instruction.heredocs[0].name
        yield HEREDOC.note(
            instruction.line, f"<<{name} is refused by older builders", "a file of its own, or && and \\"
        )
    if instruction.keyword not in ("COPY", "ADD"):
        return
    words = instruction.words
    sources = len(words) - 1 + len(instruction.heredocs) * any(word.text.startswith("<<") for word in words[-1:])
    if sources < 1:
        detail = f"{instruction.keyword} {instruction.text[:40]} names a source and no target"
        yield SOURCE.breach(instruction.line, detail, f"{instruction.keyword} SOURCE TARGET")
    elif sources > 1 and not words[-1].text.endswith(("/", ".")) and "$" not in words[-1].text:
        yield TARGET.breach(words[-1].line, f"{words[-1].text} is to take {sources} sources", f"{words[-1].text}/")
    yield from _origin(subject, stage, step)


def _origin(subject: Subject, stage: Stage, step: Step) -> Iterator[Finding]:
    named = step.instruction.flag("from")
    if named is None or subject.recipe.origin(step, stage) is not None:
        return
    earlier = [each.name for each in subject.recipe.stages[: stage.number] if each.name]
    later = [each.name for each in subject.recipe.stages[stage.number :] if each.name]
    if named.isdecimal() or named.lower() in later:
        detail = f"--from={named} is no stage above this one"
        known = ", ".join(earlier) or "none"
        yield STAGE.breach(step.instruction.line, detail, f"move that stage up; above are: {known}")
    elif "/" not in named and ":" not in named and (close := difflib.get_close_matches(named.lower(), earlier, 1)):
        detail = f"--from={named} is no stage, so the builder looks for an image of that name"
        yield STAGE.breach(step.instruction.line, detail, f"--from={close[0]}")


def _sources(context: Files, copied: list[Copied]) -> Iterator[Finding]:
    known = [(each, word, source) for each in copied for word, source in each.known]
    missing = [each for each in known if not context.matching(each[2])]
    if missing and not context.certain and len(missing) == len(known) and not _meant(context, missing):
        line = missing[0][0].step.instruction.line
        detail = f"none of what is copied is in {context.root.name or context.root}, so files were not looked at"
        yield SOURCE.note(line, detail, "name the folder that is built from: --context DIR")
        return
    for each, word, source in known:
        yield from _source(context, each, word.line, source)


def _meant(context: Files, missing: list[tuple[Copied, Word, str]]) -> bool:
    """Whether one wrong name is likelier than the wrong folder."""
    sources = {source for *_, source in missing}
    return len(sources) == 1 and context.nearest(sources.pop()) is not None


def _source(context: Files, copied: Copied, line: int, source: str) -> Iterator[Finding]:
    keyword = copied.step.instruction.keyword
    if source.startswith("../") or source == "..":
        detail = f"{source} is outside the folder that is built from"
        yield SOURCE.breach(line, detail, "build from a folder above it, or move it in")
        return
    names = context.matching(source)
    if not names:
        near = context.nearest(source)
        instead = f"{keyword} {near}" if near else "make the file, or correct the name"
        yield SOURCE.breach(line, f"{source} does not exist in {context.root.name or context.root}", instead)
    elif all(context.leaves_out(name) for name in names):
        instead = f"take it out of .dockerignore, or write a line !{files.relative(source)} behind"
        yield SOURCE.breach(line, f".dockerignore leaves {source} out, so there is nothing to copy", instead)
