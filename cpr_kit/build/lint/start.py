"""How the container starts: whether it stays, whether it hears SIGTERM, whether there is anything to start."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from cpr_kit.build.lint import endings
from cpr_kit.build.lint.finding import Finding, Rule
from cpr_kit.build.lint.program import Program
from cpr_kit.build.lint.servers import shell_leaves, starts_python, starts_shell
from cpr_kit.build.lint.subject import Subject
from cpr_kit.build.shell import Command

STAYS = Rule("start", "the start command must never return: a container that ends is started again, and again")
SIGNALS = Rule(
    "signals",
    "SIGTERM goes to the first process; a shell there does not pass it on, so requests are cut off when replicas go",
)
ARGUMENTS = Rule("arguments", "an ENTRYPOINT in shell form gets no arguments, neither CMD's nor those of the model")
EXECUTABLE = Rule("mode", "what the exec form names must be executable in the image")

_SIGNAL_INSTEAD = 'the exec form, as ["python", "-m", "server"]; or `exec` before the last command'


def find(subject: Subject) -> Iterator[Finding]:
    program = subject.program
    if program is None:
        yield from _nothing(subject)
    else:
        yield from _returns(subject, program)
        yield from _swallows(subject, program)
        yield from _cannot_run(subject, program)
    yield from _drops_arguments(subject)


def _nothing(subject: Subject) -> Iterator[Finding]:
    """Then the base's own command runs, which for a bare base is a prompt."""
    base, line = subject.recipe.base, subject.recipe.final.start.line
    if subject.recipe.entrypoint is None and subject.recipe.cmd is None:
        instead = 'CMD ["python", "-m", "cpr_kit.runtime"], or what starts your server'
        if base == "scratch":
            yield STAYS.breach(line, "the image has nothing to start: neither ENTRYPOINT nor CMD", instead)
        elif starts_python(base) or starts_shell(base):
            what = "Python's prompt" if starts_python(base) else "a shell"
            yield STAYS.breach(line, f"without ENTRYPOINT and CMD, {base} starts {what}, which ends at once", instead)
        else:
            yield STAYS.note(line, f"neither ENTRYPOINT nor CMD: {base or 'the base'} decides what starts", instead)
    else:
        last = subject.recipe.entrypoint or subject.recipe.cmd
        if last is not None and (last.exec == () or not last.text):
            yield STAYS.breach(last.line, f"{last.keyword} is empty, so there is nothing to start", "name the program")


def _returns(subject: Subject, program: Program) -> Iterator[Finding]:
    last, doubt = program.last, _doubt(subject)
    if last.texts[:1] and last.texts[0] in endings.OPEN_ENDED:
        return
    why = endings.why(last, has_text=lambda text: _in_some_file(subject, text))
    if why is not None:
        detail, instead = why
        yield STAYS.found(subject.severity, (last.line, last.path), detail + doubt, instead)
        return
    for command in program.commands[:-1]:
        texts = command.texts
        replaced = texts[:1] == ("exec",) and len(texts) > 1
        why = endings.why(command, has_text=lambda text: _in_some_file(subject, text)) if replaced else None
        if why is not None:
            yield STAYS.found(subject.severity, (command.line, command.path), why[0] + doubt, why[1])


def _doubt(subject: Subject) -> str:
    base = subject.recipe.base or "the base"
    return "" if subject.severity == "breach" else f", unless the ENTRYPOINT of {base} does otherwise"


def _in_some_file(subject: Subject, text: str) -> bool:
    """Whether a configuration of the folder says it: `nodaemon=true`, `daemon off`."""
    pattern = re.compile(text, re.IGNORECASE)
    written = any(pattern.search(each.text) for each in subject.dockerfile.instructions if each.keyword == "RUN")
    if written or subject.files is None:
        return written
    names = (name for name in subject.files.names() if name.endswith((".conf", ".ini", ".cfg")))
    return any(pattern.search(subject.files.text(name) or "") for name in names)


def _swallows(subject: Subject, program: Program) -> Iterator[Finding]:
    if not program.interpreter or program.forwards or _hears(subject, program):
        return
    last = program.last
    if last.texts[:1] and last.texts[0] in endings.OPEN_ENDED:
        last = next((command for command in reversed(program.commands) if not _closes(command)), last)
    if program.script is not None:
        detail = f"the shell of {program.script.name} stays the first process: its last command has no exec"
        name = " ".join(last.texts)[:60]
        yield SIGNALS.found(subject.severity, (last.line, last.path), detail + _doubt(subject), f"exec {name}")
        return
    keyword = program.instruction.keyword
    form = "gives a shell" if program.instruction.exec is not None else "in shell form gives /bin/sh"
    detail = f"{keyword} {form} the first place in the container, and it stays there"
    yield SIGNALS.found(subject.severity, (program.instruction.line, ""), detail + _doubt(subject), _SIGNAL_INSTEAD)


def _closes(command: Command) -> bool:
    return bool(command.texts) and command.texts[0] in endings.OPEN_ENDED


def _hears(subject: Subject, program: Program) -> bool:
    """Whether the last command takes the shell's place, or the shell waits for signals itself."""
    commands = program.commands
    if any(command.texts[:1] == ("trap",) for command in commands):
        return True
    if any(command.texts[:1] == ("exec",) and len(command.texts) > 1 for command in commands):
        return True
    if program.script is not None:
        return False
    is_bash = program.interpreter in ("bash", "zsh", "ksh") or shell_leaves(subject.recipe.base)
    return is_bash and not program.last.after and not _closes(program.last) and program.last.texts[:1] != ("wait",)


def _cannot_run(subject: Subject, program: Program) -> Iterator[Finding]:
    """A script without its x bit ends with "permission denied" before it has begun."""
    script, files = program.script, subject.files
    if script is None or files is None or script.started_by_shell or program.instruction.exec is None:
        return
    if script.text.startswith("#!") and "\r\n" in script.text.partition("\n")[0] + "\n":
        detail = f"{script.name} has line ends of Windows, so its interpreter is not found"
        yield EXECUTABLE.breach(1, detail, f"sed -i 's/\\r$//' {script.name}", path=script.name)
    mode = (files.root / script.name).stat().st_mode
    changed = script.copied.step.instruction.flag("chmod") is not None or any(
        "chmod" in step.instruction.text and posixpath.basename(script.name) in step.instruction.text
        for step in subject.recipe.steps
        if step.instruction.keyword == "RUN"
    )
    if not mode & 0o111 and not changed:
        detail = f"{script.name} is not executable here, and nothing makes it so"
        yield EXECUTABLE.breach(program.instruction.line, detail, f"chmod +x {script.name}; or COPY --chmod=755")


def _drops_arguments(subject: Subject) -> Iterator[Finding]:
    entry, cmd = subject.recipe.entrypoint, subject.recipe.cmd
    if entry is not None and cmd is not None and entry.exec is None and entry.text and cmd.text:
        detail = f"the ENTRYPOINT of line {entry.line} is in shell form, so this CMD is never seen"
        yield ARGUMENTS.breach(cmd.line, detail, "write the ENTRYPOINT in exec form")
