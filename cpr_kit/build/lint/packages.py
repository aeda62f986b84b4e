"""Whether what starts is installed, and whether an edit of the code installs it again."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cpr_kit.build import imports
from cpr_kit.build.lint import files, installs
from cpr_kit.build.lint.files import Copied
from cpr_kit.build.lint.finding import Finding, Rule
from cpr_kit.build.lint.installs import Install
from cpr_kit.build.lint.program import python_file
from cpr_kit.build.lint.servers import BROUGHT_BY, KIT, SDK, is_bare, repository
from cpr_kit.build.lint.subject import Subject

MISSING = Rule("missing package", "what the start command needs must be in the image")
OLD = Rule("Python", "cpr_kit needs Python 3.10, and an older one gets no more security fixes")
ORDER = Rule("order", "a layer is built again when one before it changes: what changes often comes last")
CACHE = Rule("package cache", "what pip keeps for its next run stays in the layer, and nothing reads it")

_IMAGES = {
    "bentoml": ("bentoml",),
    "fastapi": ("fastapi",),
    "flask": ("flask",),
    "gunicorn": ("gunicorn",),
    "torchserve": ("pytorch/torchserve",),
    "uvicorn": ("uvicorn", "fastapi"),
    "vllm": ("vllm",),
}
_SERVING_PART = "google.cloud.aiplatform.prediction"
_OLDEST = (3, 10)
_CODE_FOLDERS = frozenset({".", "app", "src", "code", "server", "serving"})


def find(subject: Subject) -> Iterator[Finding]:
    found = [
        install for stage in subject.recipe.reached for install in installs.read(subject.recipe, stage, subject.files)
    ]
    yield from _missing(subject, found)
    yield from _too_old(subject, found)
    yield from _order(subject, found)
    yield from _cache(subject, found)


def _missing(subject: Subject, found: list[Install]) -> Iterator[Finding]:
    if any(install.is_opaque for install in found) or _brings_unseen(subject):
        return
    names = {name for install in found for name in install.names}
    reported: set[str] = set()
    for line, path, what, distributions in _wanted(subject):
        if distributions.isdisjoint(names) and what not in reported and not _in_base(subject, what):
            reported.add(what)
            yield _lacking(subject, line, path, what, distributions)
        elif what.startswith(_SERVING_PART) and not _serves(names):
            detail = f"{what} needs fastapi and uvicorn, which {SDK} alone does not bring"
            yield MISSING.breach(line, detail, f'install "{SDK}[prediction]", or cpr-kit', path=path)
            return


def _serves(names: set[str]) -> bool:
    """Whether the SDK was installed with what its serving part imports."""
    return bool({KIT, f"{SDK}[prediction]"} & names) or {"fastapi", "uvicorn"} <= names


def _lacking(subject: Subject, line: int, path: str, what: str, distributions: frozenset[str]) -> Finding:
    base = subject.recipe.base
    distribution = (
        what if what in distributions else min(distributions, key=lambda name: (name not in (SDK, KIT), name))
    )
    instead = f"RUN python -m pip install --no-cache-dir {distribution}; or name it in the requirements"
    if SDK in distributions and KIT in distributions:
        instead = f'install "{SDK}[prediction]", or cpr-kit, which answers to the same names'
    if is_bare(base):
        return MISSING.breach(line, f"{what} is started or imported, and nothing installs it", instead, path=path)
    unless = f"unless {base or 'the base'} has it, nothing installs {what}, which is started or imported"
    return MISSING.note(line, unless, instead, path=path)


def _brings_unseen(subject: Subject) -> bool:
    """Files of other images, downloads and vendored packages: what is in them, nobody knows here."""
    for stage in subject.recipe.reached:
        for step in stage:
            instruction = step.instruction
            if instruction.flag("from") is not None and subject.recipe.origin(step, stage) is None:
                return True
            if instruction.keyword == "ONBUILD" or "site-packages" in instruction.text:
                return True
            if instruction.keyword in ("COPY", "ADD") and re.search(
                r"https?://|\.whl|\.tar|\.cpr\b|\.zip", instruction.text
            ):
                return True
    return any(
        not is_bare(stage.image)
        for stage in subject.recipe.reached
        if stage.parent is None and stage not in subject.recipe.lineage
    )


def _wanted(subject: Subject) -> Iterator[tuple[int, str, str, frozenset[str]]]:
    """Line, file, name and bringers of each server that is started, and of each that the started file imports."""
    for serving in subject.serving:
        if serving.server.distributions:
            yield serving.command.line, serving.command.path, serving.name, serving.server.distributions
        for word in serving.arguments:
            if serving.name == "gunicorn" and word.text.startswith("uvicorn."):
                yield word.line, serving.command.path, "uvicorn", BROUGHT_BY["uvicorn"]
    for command in subject.program.commands if subject.program is not None else ():
        file = python_file(command)
        read = subject.tree_at(file.text) if file is not None else None
        for line, module in imports.imported(read[1]) if read is not None else ():
            known = next((name for name in BROUGHT_BY if module == name or module.startswith(f"{name}.")), None)
            if read is not None and known is not None:
                yield line, read[0], module if known.startswith("google") else known, BROUGHT_BY[known]


def _in_base(subject: Subject, what: str) -> bool:
    base = repository(subject.recipe.base or "")
    if base.startswith("vertex-ai/") or "/vertex-ai/" in base or "deeplearning-platform" in base:
        return True
    return any(part in base for part in _IMAGES.get(what, (what,)))


def _too_old(subject: Subject, found: list[Install]) -> Iterator[Finding]:
    base = subject.recipe.base
    match = re.search(r":(\d+)\.(\d+)", base or "")
    if base is None or repository(base) != "python" or match is None:
        return
    version = int(match.group(1)), int(match.group(2))
    if version >= _OLDEST:
        return
    line = subject.recipe.lineage[0].start.line
    uses_kit = any(KIT in install.names for install in found) or any(
        KIT in distributions and SDK not in distributions for *_, distributions in _wanted(subject)
    )
    copies_kit = any(
        files.of_the_kit(source or "")
        for stage in subject.recipe.reached
        for each in files.copies(stage)
        for _, source in each.sources
    )
    is_needed = uses_kit or copies_kit
    detail = f"{base} has Python {version[0]}.{version[1]}" + (
        ", on which the kit does not install" if is_needed else ""
    )
    yield OLD.found("breach" if is_needed else "note", (line, ""), detail, "FROM python:3.11-slim")


def _order(subject: Subject, found: list[Install]) -> Iterator[Finding]:
    for stage in subject.recipe.reached:
        code = [copied for copied in files.copies(stage) if _has_code(subject, copied)]
        if not code:
            continue
        line = code[0].step.instruction.line
        later = [
            install
            for install in found
            if install.stage is stage
            and install.command.line > line
            and not install.needs_code
            and _is_package(install)
        ]
        if later:
            what = " ".join(later[0].command.texts)[:60]
            where = f'"{what}" on line {later[0].command.line}'
            detail = f"the code is copied before {where}, so each edit of it installs all again"
            yield ORDER.note(line, detail, "COPY the requirements alone, RUN the install, then COPY the code")


def _is_package(install: Install) -> bool:
    return install.by_pip or (bool(install.names) and not install.is_opaque)


def _has_code(subject: Subject, copied: Copied) -> bool:
    context = subject.files
    for _, source in copied.known:
        name = files.relative(source)
        if context is None or not context.matching(source):
            if name.endswith(".py") or name in _CODE_FOLDERS:
                return True
            continue
        if any(each.endswith(".py") for each in context.below(source)):
            return True
    return False


def _cache(subject: Subject, found: list[Install]) -> Iterator[Finding]:
    kept = subject.recipe.lineage
    for install in found:
        words = " ".join(install.command.texts)
        step = install.step
        is_cached = any(name == "mount" and "type=cache" in value for name, value in step.instruction.flags)
        told = "--no-cache-dir" in words or "PIP_NO_CACHE_DIR" in step.values or "rm -rf" in step.instruction.text
        if install.stage in kept and install.by_pip and not is_cached and not told and not words.startswith("uv "):
            yield CACHE.note(install.command.line, "pip install without --no-cache-dir", "pip install --no-cache-dir")
