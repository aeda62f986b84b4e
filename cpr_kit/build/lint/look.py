"""A look at a Dockerfile before anything is built from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cpr_kit.build import dockerfile, stages
from cpr_kit.build.dockerfile import FLAGS, Dockerfile
from cpr_kit.build.lint import access, application, copies, environment, form, packages, ports, secrets, start
from cpr_kit.build.lint.files import Files
from cpr_kit.build.lint.files import copies as copied_in
from cpr_kit.build.lint.finding import Finding
from cpr_kit.build.lint.subject import Subject
from cpr_kit.config import FILE, Config
from cpr_kit.contract import DEFAULT_PORT
from cpr_kit.errors import SourceError

_RULES = (form, environment, ports, packages, access, start, application, copies, secrets)
_OF_ITS_START = (ports, start)


@dataclass(frozen=True)
class Look:
    """What was found, in the order of the lines."""

    path: Path
    context: Path | None
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        return not any(finding.severity == "breach" for finding in self.findings)


def at(path: Path, *, context: Path | None = None, port: int = DEFAULT_PORT, certain: bool = True) -> Look:
    """Read the Dockerfile at `path`; `context` is the folder it is built from, None to look at no other file.

    Raises SourceError for what is no Dockerfile, and for a .dockerignore that Docker would refuse.
    """
    read = dockerfile.read(path)
    if not _is_dockerfile(path, read):
        raise SourceError(path, "is no Dockerfile: hardly a line begins with an instruction")
    files = Files.of(context, certain=certain) if context is not None else None
    found = sorted(
        set(findings(read, files, port, is_replaced=_is_replaced(context))),
        key=lambda each: (each.path, each.line, each.severity, each.name),
    )
    return Look(path, context, tuple(found))


def findings(
    read: Dockerfile, files: Files | None = None, port: int = DEFAULT_PORT, *, is_replaced: bool = False
) -> Iterator[Finding]:
    """`is_replaced`: another command or other arguments start it, so what it would do by itself breaks no rule."""
    for problem in read.problems:
        yield form.SYNTAX.breach(problem.line, problem.text, "correct it; the builder stops here")
    yield from form.syntax(read.instructions)
    recipe = stages.plan(read)
    if recipe is None:
        yield form.SYNTAX.breach(1, "there is no FROM, so nothing to build", "FROM python:3.11-slim")
        return
    subject = Subject(read, recipe, files, port)
    for rule in _RULES:
        for found in rule.find(subject):
            yield replace(found, severity="note") if is_replaced and rule in _OF_ITS_START else found


def folder_of(path: Path, here: Path) -> tuple[Path, bool]:
    """The folder that a Dockerfile is built from, and whether that is certain.

    It is certain where cpr.toml lies at or above the Dockerfile. Else it is the one, of the folders from the
    Dockerfile's own up to `here`, that has most of what is copied.
    """
    path = path.resolve()
    above = [path.parent, *path.parent.parents]
    named = next((folder for folder in above if (folder / FILE).is_file()), None)
    if named is not None:
        return named, True
    here = here.resolve()
    candidates = above[: above.index(here) + 1] if here in above else [path.parent]
    recipe = stages.plan(dockerfile.read(path))
    if recipe is None:
        return path.parent, False
    return max(candidates, key=lambda folder: _has(Files.of(folder), recipe)), False


def _is_replaced(context: Path | None) -> bool:
    """Whether cpr.toml starts the image by another command than its own."""
    if context is None or not (context / FILE).is_file():
        return False
    image = Config.read(context).image
    return bool(image.command or image.args)


def _is_dockerfile(path: Path, read: Dockerfile) -> bool:
    """By its name, or by what is in it."""
    named = any(each in path.name.lower() for each in ("dockerfile", "containerfile"))
    known = sum(each.keyword in FLAGS for each in read.instructions)
    return (named and path.suffix != ".py") or 2 * known > len(read.instructions)


def _has(files: Files, recipe: stages.Recipe) -> int:
    sources = [source for stage in recipe.stages for each in copied_in(stage) for _, source in each.known]
    return sum(bool(files.matching(source)) for source in sources)
