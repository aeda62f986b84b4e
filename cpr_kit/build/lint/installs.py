"""What the RUN instructions of a Dockerfile install, as far as their words tell."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cpr_kit.build import requirements, shell
from cpr_kit.build.lint import files
from cpr_kit.build.lint.files import Files
from cpr_kit.build.lint.program import PYTHON, bare
from cpr_kit.build.requirements import normalised
from cpr_kit.build.shell import Command, Word
from cpr_kit.build.stages import Recipe, Stage, Step
from cpr_kit.errors import CprError

_SYSTEM = frozenset({"apt", "apt-get", "aptitude", "apk", "yum", "dnf", "microdnf", "zypper"})
_CONDA = frozenset({"conda", "mamba", "micromamba"})
_VALUED = frozenset(
    {
        "-b", "-c", "-f", "-i", "-n", "-p", "-t", "--abi", "--cache-dir", "--cert", "--channel", "--config-settings",
        "--constraint", "--default-index", "--extra-index-url", "--find-links", "--implementation", "--index",
        "--index-strategy", "--index-url", "--keyring-provider", "--log", "--name", "--no-binary", "--only-binary",
        "--platform", "--prefix", "--progress-bar", "--proxy", "--python", "--python-version", "--retries", "--root",
        "--root-user-action", "--src", "--target", "--timeout", "--torch-backend", "--trusted-host",
        "--upgrade-strategy",
    }
)  # fmt: skip
_PRIVATE_INDEX = frozenset(
    {"-f", "-i", "--default-index", "--extra-index-url", "--find-links", "--index", "--index-url"}
)
_PUBLIC_INDEX = ("pypi.org", "download.pytorch.org", "files.pythonhosted.org")
_HARMLESS = frozenset(
    {
        ":", "[", "[[", "addgroup", "adduser", "apt-mark", "cat", "cd", "chgrp", "chmod", "chown", "cp", "curl", "date",
        "echo", "env", "exit", "export", "find", "getent", "grep", "groupadd", "gunzip", "id", "install", "ldconfig",
        "ln", "locale-gen", "ls", "mkdir", "mv", "printf", "rm", "sed", "set", "shift", "sleep", "sort", "tee", "test",
        "touch", "tr", "true", "update-ca-certificates", "useradd", "usermod", "wget", "xargs", "which", "fi", "done",
    }
)  # fmt: skip
"""Commands that bring no package."""

_NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]*)\])?\s*(?:[=<>!~;@ ].*)?\Z")
_PATH = re.compile(r"[./~$*]|git\+|https?:|file:")


@dataclass(frozen=True, kw_only=True)
class Install:
    """One command. `names` are distributions, normalised, extras in brackets; `is_opaque` where more may come."""

    step: Step
    stage: Stage
    command: Command
    by_pip: bool = False
    names: frozenset[str] = frozenset()
    is_opaque: bool = False
    needs_code: bool = False
    """It installs the project itself, so that the code must be there."""


def read(recipe: Recipe, stage: Stage, context: Files | None) -> Iterator[Install]:
    for step in stage:
        for command in commands(step):
            found = _install(recipe, stage, step, command, context)
            if found is not None:
                yield found


def commands(step: Step) -> tuple[Command, ...]:
    """Those of a RUN, in whatever form it is written."""
    instruction = step.instruction
    if instruction.keyword != "RUN":
        return ()
    if instruction.exec is not None:
        words = tuple(Word(word.text, word.line) for word in instruction.words)
        script = words[2] if len(words) > 2 and words[1].text == "-c" else None  # noqa: PLR2004
        return shell.commands(script.text, lambda _: words[2].line) if script else (Command(words),) if words else ()
    found = shell.commands(instruction.text, instruction.line_at)
    for part in instruction.heredocs:
        found += shell.commands(part.text, part.line_at)
    return found


def _install(recipe: Recipe, stage: Stage, step: Step, command: Command, context: Files | None) -> Install | None:
    words = bare(command.words)
    if not words:
        return None
    name, texts = posixpath.basename(words[0].text), [word.text for word in words[1:]]
    plain = Install(step=step, stage=stage, command=command)
    if PYTHON.match(name) and texts[:2] == ["-m", "pip"]:
        name, texts = "pip", texts[2:]
    if name == "uv" and texts[:1] == ["pip"]:
        name, texts = "pip", texts[1:]
    if re.match(r"pip[\d.]*\Z", name):
        return _of_pip(recipe, plain, texts, context) if "install" in texts[:3] else None
    if name in _SYSTEM or name in _CONDA:
        return _of_system(plain, texts)
    if (
        name in _HARMLESS
        or (PYTHON.match(name) and texts[:1] == ["-c"])
        or texts[:2] in (["-m", "venv"], ["-m", "compileall"])
    ):
        return None
    return _opaque(plain, needs_code=name in ("poetry", "pdm", "uv", "pipenv", "hatch", "make"))


def _opaque(plain: Install, *, by_pip: bool = False, needs_code: bool = False) -> Install:
    return Install(
        step=plain.step, stage=plain.stage, command=plain.command, by_pip=by_pip, is_opaque=True, needs_code=needs_code
    )


def _of_system(plain: Install, texts: list[str]) -> Install | None:
    if not {"install", "add"} & set(texts):
        return _opaque(plain) if {"create", "update"} <= set(texts) or "env" in texts else None
    words = [re.split(r"[=<>]", text)[0] for text in texts if not text.startswith("-")]
    names = {
        normalised(re.sub(r"^(?:python3|py3|python)-", "", word)) for word in words if word not in ("install", "add")
    }
    return Install(
        step=plain.step, stage=plain.stage, command=plain.command, names=frozenset(names),
        is_opaque="--file" in texts,
    )  # fmt: skip


def _of_pip(recipe: Recipe, plain: Install, texts: list[str], context: Files | None) -> Install:
    names: set[str] = set()
    opaque = needs_code = False
    place = texts.index("install") + 1
    while place < len(texts):
        word = texts[place]
        option, separator, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if not separator and (
            option in _VALUED or option in ("-r", "--requirement", "--requirements", "-e", "--editable")
        ):
            place += 1
            value = texts[place] if place < len(texts) else ""
        elif re.match(r"-r\S", word):
            option, value = "-r", word[2:]
        if option in ("-r", "--requirement", "--requirements"):
            read_names = _requirements(recipe, plain.step, value, context)
            names |= read_names or set()
            opaque |= read_names is None
        elif option in ("-e", "--editable"):
            opaque, needs_code = True, True
        elif option in _PRIVATE_INDEX:
            opaque |= not any(host in value for host in _PUBLIC_INDEX)
        elif not option.startswith("-"):
            match = _NAME.match(word)
            local = bool(_PATH.match(word)) or word.endswith((".whl", ".zip", ".gz")) or match is None
            needs_code |= word.split("[")[0] in (".", "./")
            opaque |= local
            names |= set() if local or match is None else _with_extras(match)
        place += 1
    return Install(
        step=plain.step, stage=plain.stage, command=plain.command, by_pip=True, names=frozenset(names),
        is_opaque=opaque, needs_code=needs_code,
    )  # fmt: skip


def _with_extras(match: re.Match[str]) -> set[str]:
    name = normalised(match.group(1))
    return {name} | {f"{name}[{normalised(extra)}]" for extra in (match.group(2) or "").split(",") if extra.strip()}


def _requirements(recipe: Recipe, step: Step, name: str, context: Files | None) -> set[str] | None:
    """What a requirements file names; None where it cannot be read here."""
    named = step.expanded(name)
    if context is None or named is None or (not named.startswith("/") and step.folder is None):
        return None
    path = posixpath.normpath(posixpath.join(step.folder or "/", named))
    found = files.origin(recipe, context, path)
    if found is None:
        return None
    try:
        text = requirements.read(context.root / found[0])
    except CprError:
        return None
    if re.search(r"^\s*(?:-e|--editable|git\+|https?://|\.|--index-url|--extra-index-url|-i)\b", text, re.MULTILINE):
        return None
    return {
        each
        for distribution, extras in requirements.declared(text).items()
        for each in (distribution, *(f"{distribution}[{extra}]" for extra in extras))
    }
