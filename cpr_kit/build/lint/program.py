"""What the container starts: through the exec form, a shell's text, wrappers, and a script of the context."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cpr_kit.build import shell
from cpr_kit.build.dockerfile import Instruction
from cpr_kit.build.lint import files
from cpr_kit.build.lint.files import Copied, Files
from cpr_kit.build.lint.servers import MODULES, SERVERS, Server
from cpr_kit.build.shell import Command, Word
from cpr_kit.build.stages import Recipe

SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
PYTHON = re.compile(r"(python|pypy)(\d+(\.\d+)?)?\Z")
_INITS = frozenset({"tini", "dumb-init", "catatonit", "docker-init", "tini-static"})
_WRAPPERS = frozenset({"env", "nice", "ionice", "stdbuf", "nohup", "time", "opentelemetry-instrument", "ddtrace-run"})
_USER_WRAPPERS = frozenset({"gosu", "su-exec", "setpriv", "chpst"})
_CONDA = frozenset({"conda", "mamba", "micromamba"})
_RUNNERS = frozenset({"uv", "poetry", "pipenv", "pdm", "hatch", "pixi", "rye"})
_OPTION_OF_SHELL = re.compile(r"-[a-z]*c\Z")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Script:
    """A script of the context that the container starts, and the copy that brings it."""

    name: str
    text: str
    copied: Copied
    started_by_shell: bool


@dataclass(frozen=True, kw_only=True)
class Program:
    """What runs, in order. `interpreter` is the shell that reads the commands, "script" for a file of the context."""

    instruction: Instruction
    commands: tuple[Command, ...]
    interpreter: str = ""
    script: Script | None = None
    forwards: bool = False
    """A process before the shell passes signals on to all that it started."""

    @property
    def last(self) -> Command:
        return self.commands[-1]


@dataclass(frozen=True)
class Serving:
    """A command that starts a server that is known."""

    name: str
    server: Server
    command: Command
    arguments: tuple[Word, ...]


def read(recipe: Recipe, context: Files | None) -> Program | None:
    """None where this file names nothing to start, or where it cannot be read."""
    entry, cmd = recipe.entrypoint, recipe.cmd
    named = entry if entry is not None and (entry.exec or (entry.exec is None and entry.text)) else cmd
    if named is None or not named.text:
        return None
    if named.exec is None:
        return _of_shell(recipe, named)
    words = _literal(named)
    if named is entry and cmd is not None:
        words += _literal(cmd) if cmd.exec is not None else _as_words(cmd)
    return _unwrapped(recipe, context, named, words) if words else None


def serving(program: Program) -> Iterator[Serving]:
    """Every server that is started, with what stands behind its name."""
    for command in program.commands:
        words = bare(command.words)
        name, rest = _name(words)
        server = SERVERS.get(name)
        if server is not None and (not server.commands or (rest and rest[0].text in server.commands)):
            yield Serving(name, server, command, rest)


def python_file(command: Command) -> Word | None:
    """The file that a command gives to Python, or runs itself."""
    words = bare(command.words)
    if words and words[0].text.endswith(".py"):
        return words[0]
    if not words or not PYTHON.match(posixpath.basename(words[0].text)):
        return None
    rest = [word for word in words[1:] if not word.text.startswith("-")]
    options = {word.text for word in words[1:2]}
    return rest[0] if rest and rest[0].text.endswith(".py") and not options & {"-m", "-c"} else None


def bare(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Without what stands before the program itself: exec, init programs, `env A=b`, `poetry run`."""
    while words:
        name = posixpath.basename(words[0].text)
        if name == "exec" or name in _INITS or name in _WRAPPERS:
            words = _behind_options(words[1:])
        elif name in _USER_WRAPPERS:
            words = _behind_options(words[1:])[1:]
        elif name in _RUNNERS and len(words) > 1 and words[1].text == "run":
            words = _behind_options(words[2:])
        elif name in _CONDA and len(words) > 1 and words[1].text == "run":
            words = _behind_options(words[2:], valued=("-n", "--name", "-p", "--prefix"))
        else:
            return words
    return words


def _behind_options(words: tuple[Word, ...], valued: tuple[str, ...] = ()) -> tuple[Word, ...]:
    start = 0
    while start < len(words) and (words[start].text.startswith("-") or _ASSIGNMENT.match(words[start].text)):
        start += 2 if words[start].text in valued else 1
    return words[start:]


def _name(words: tuple[Word, ...]) -> tuple[str, tuple[Word, ...]]:
    """The program, or the module that Python runs."""
    if not words:
        return "", ()
    name = posixpath.basename(words[0].text)
    if PYTHON.match(name):
        for place, word in enumerate(words[1:-1], 1):
            if word.text == "-m":
                module = words[place + 1].text
                return MODULES.get(module, module), words[place + 2 :]
            if not word.text.startswith("-"):
                break
    return name, words[1:]


def _literal(instruction: Instruction) -> tuple[Word, ...]:
    return tuple(Word(word.text, word.line) for word in instruction.words)


def _as_words(cmd: Instruction) -> tuple[Word, ...]:
    """A CMD in shell form behind an ENTRYPOINT in exec form."""
    return tuple(Word(text, cmd.line) for text in ("/bin/sh", "-c", cmd.text))


def _of_shell(recipe: Recipe, named: Instruction) -> Program:
    chosen = [step.instruction for step in recipe.steps if step.instruction.keyword == "SHELL"]
    words = (chosen[-1].exec if chosen else None) or ("/bin/sh",)
    return Program(
        instruction=named, commands=shell.commands(named.text, named.line_at), interpreter=posixpath.basename(words[0])
    )


def _unwrapped(recipe: Recipe, context: Files | None, named: Instruction, words: tuple[Word, ...]) -> Program:
    """Of an exec form: the shell's text where it is `sh -c`, the script where it is one of the context."""
    init = posixpath.basename(words[0].text)
    rest = bare(words)
    forwards = init == "dumb-init" or (init in _INITS and "-g" in {word.text for word in words})
    plain = Program(instruction=named, commands=(Command(words),), forwards=forwards)
    if not rest:
        return plain
    name = posixpath.basename(rest[0].text)
    texts = [word.text for word in rest[1:]]
    option = next((place for place, text in enumerate(texts) if _OPTION_OF_SHELL.match(text)), None)
    if name in SHELLS and option is not None and option + 1 < len(texts):
        line = rest[option + 2].line
        return replace(plain, commands=shell.commands(texts[option + 1], lambda _: line), interpreter=name)
    started = [word for word in rest[name in SHELLS :] if not word.text.startswith("-")]
    script = _script(recipe, context, started[0], by_shell=name in SHELLS) if started else None
    if script is None:
        return plain
    return replace(plain, commands=_commands(script), interpreter="script", script=script)


def _script(recipe: Recipe, context: Files | None, word: Word, *, by_shell: bool) -> Script | None:
    path = absolute(recipe, word.text)
    found = files.origin(recipe, context, path) if context is not None and path is not None else None
    if context is None or found is None:
        return None
    text = context.text(found[0]) or ""
    first = text.split("\n", 1)[0]
    if not by_shell and not re.match(r"#!.*\b(sh|bash|dash|ash|zsh|ksh)\b", first):
        return None
    return Script(found[0], text, found[1], by_shell)


def _commands(script: Script) -> tuple[Command, ...]:
    def line_at(offset: int) -> int:
        return script.text.count("\n", 0, offset) + 1

    return shell.commands(script.text, line_at, path=script.name)


def absolute(recipe: Recipe, path: str) -> str | None:
    """A path as the started process sees it; None for a program of the PATH, and where the folder is unknown."""
    if path.startswith("/"):
        return posixpath.normpath(path)
    if recipe.folder is None or not path:
        return None
    return posixpath.normpath(posixpath.join(recipe.folder, path))
