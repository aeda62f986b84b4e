"""What the container's user may read, write and install."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from cpr_kit.build.lint import files, installs, program
from cpr_kit.build.lint.finding import Finding, Rule
from cpr_kit.build.lint.servers import is_bare, repository
from cpr_kit.build.lint.subject import ROOT, Subject
from cpr_kit.build.stages import Step

USER = Rule("user", "a server needs no rights of root, and whoever breaks into it should not find any")
HOME = Rule("root's folder", "/root can be entered by root alone")
READ = Rule("mode", "the container's user must be able to read what it runs")
WRITE = Rule("root's place", "the container's user may write where it was given a place: its own folder, or /tmp")
INSTALL = Rule("install", "system packages are installed by root")

_SYSTEM = frozenset({"apt", "apt-get", "apk", "yum", "dnf", "microdnf"})
_MODE = re.compile(r"0?([0-7])([0-7])([0-7])\Z|[0-7]([0-7])([0-7])([0-7])\Z")
_ROOTS = ("/var/log", "/var/run", "/run", "/etc", "/usr", "/opt", "/root", "/srv")
_LOG_OPTIONS = frozenset({"--pid", "-p", "--access-logfile", "--error-logfile", "--log-file", "--log-config"})
_INSTEAD = "USER 65534:65534 as the last USER"


def find(subject: Subject) -> Iterator[Finding]:
    yield from _root(subject)
    if not subject.is_unprivileged:
        return
    yield from _home(subject)
    yield from _modes(subject)
    yield from _kept_modes(subject)
    yield from _written(subject)
    yield from _installs(subject)


def _root(subject: Subject) -> Iterator[Finding]:
    step, base = subject.recipe.user, subject.recipe.base
    if step is None and (is_bare(base) or base is None):
        known = "the container runs as root" if is_bare(base) else "without USER, the base decides who runs: often root"
        yield USER.note(subject.recipe.final.start.line, known, _INSTEAD)
    elif step is None:
        detail = f"without USER, {repository(base or '')} decides who runs: often root"
        yield USER.note(subject.recipe.final.start.line, detail, _INSTEAD)
    elif subject.user in ROOT:
        yield USER.note(step.instruction.line, "the container runs as root", _INSTEAD)


def _home(subject: Subject) -> Iterator[Finding]:
    who = f"user {subject.user}"
    folder = subject.recipe.folder
    if folder is not None and _below(folder, "/root"):
        steps = [step for step in subject.recipe.steps if step.instruction.keyword == "WORKDIR"]
        yield HOME.breach(steps[-1].instruction.line, f"{who} cannot enter WORKDIR {folder}", "WORKDIR /usr/app")
    home = subject.recipe.env.get("HOME")
    if home is not None and home.value is not None and _below(home.value, "/root"):
        detail = f"{who} can neither read nor write HOME={home.value}, where libraries keep caches"
        yield HOME.breach(home.line, detail, "ENV HOME=/tmp, or a folder of the user's own")
    for step in subject.recipe.steps:
        for pair in step.instruction.pairs if step.instruction.keyword == "ENV" else ():
            if pair.name in ("PATH", "PYTHONPATH") and re.search(r"(?:\A|[:\"'=])/root/", pair.value or ""):
                detail = f"{who} finds nothing in the part of {pair.name} that is below /root"
                yield HOME.breach(pair.line, detail, "install into /opt or /usr/local, not with --user")
    for command in subject.program.commands if subject.program is not None else ():
        for word in command.words:
            if _below(word.text, "/root"):
                yield HOME.breach(
                    word.line, f"{who} cannot reach {word.text}", "COPY it to /usr/app", path=command.path
                )


def _modes(subject: Subject) -> Iterator[Finding]:
    """COPY --chmod takes what others may read, unless the files belong to the user."""
    for stage in subject.recipe.lineage:
        for step in stage:
            mode = step.instruction.flag("chmod") if step.instruction.keyword in ("COPY", "ADD") else None
            match = _MODE.match(mode or "")
            if match is None or _is_own(subject, step):
                continue
            others = int(match.group(3) or match.group(6))
            if not others & 4 and _is_needed(subject, step):
                detail = f"--chmod={mode} lets user {subject.user} read none of it"
                yield READ.breach(step.instruction.line, detail, f"--chmod=755, or --chown={subject.user}")


def _kept_modes(subject: Subject) -> Iterator[Finding]:
    """A builder keeps the modes of files; `cpr build` copies them as 644 or 755, so this is a note."""
    context = subject.files
    for copied in (each for stage in subject.recipe.lineage for each in files.copies(stage)):
        step = copied.step
        if context is None or step.instruction.flag("chmod") is not None or _is_own(subject, step):
            continue
        for word, source in copied.known:
            brought = context.below(source) if _is_needed(subject, step) else ()
            name = next((name for name in brought if not context.mode(name) & 0o004), None)
            if name is not None:
                mode = f"{context.mode(name):o}"
                detail = f"docker build keeps mode {mode} of {name}, which user {subject.user} cannot read"
                yield READ.note(word.line, detail, "chmod a+r, COPY --chmod=755, or cpr build, which copies it as 644")


def _is_own(subject: Subject, step: Step) -> bool:
    """Whether the file goes to the user, or to a group that it may be in: then its mode for others says nothing."""
    owner = step.instruction.flag("chown")
    named = step.expanded(owner) if owner is not None else "0"
    return named is None or named.partition(":")[0] not in ROOT or _given_away(subject, step)


def _given_away(subject: Subject, after: Step) -> bool:
    later = [step for step in subject.recipe.steps if step.instruction.line > after.instruction.line]
    return any(
        command.texts[:1] in (("chown",), ("chmod",), ("chgrp",))
        for step in later
        for command in installs.commands(step)
    )


def _is_needed(subject: Subject, step: Step) -> bool:
    """Whether the start is known to use it: it goes to the folder that is worked in, or holds what is started."""
    words = step.instruction.words
    target = step.expanded(words[-1].text) if words else None
    if target is None:
        return False
    place = posixpath.normpath(posixpath.join(step.folder or "/", target))
    started = [word.text for command in (subject.program.commands if subject.program else ()) for word in command.words]
    paths = [program.absolute(subject.recipe, text) for text in started]
    here = subject.recipe.folder
    return place == here or any(path is not None and _below(path, place) for path in paths)


def _written(subject: Subject) -> Iterator[Finding]:
    """Log files and pid files of the start command in folders that are root's."""
    for command in subject.program.commands if subject.program is not None else ():
        named = list(command.targets)
        words = command.words
        named += [words[place + 1] for place, word in enumerate(words[:-1]) if word.text in _LOG_OPTIONS]
        for word in named:
            folder = posixpath.dirname(word.text)
            if folder.startswith(_ROOTS) and not word.text.startswith("/dev/") and not _prepared(subject, folder):
                detail = f"user {subject.user} cannot write {word.text}"
                yield WRITE.breach(word.line, detail, "write to standard output, or below /tmp", path=command.path)


def _prepared(subject: Subject, folder: str) -> bool:
    """Whether some instruction makes that folder, or gives it away."""
    return any(
        folder in step.instruction.text or posixpath.dirname(folder) + "/ " in step.instruction.text
        for step in subject.recipe.steps
        if step.instruction.keyword in ("RUN", "COPY", "VOLUME", "WORKDIR")
    )


def _installs(subject: Subject) -> Iterator[Finding]:
    for stage in subject.recipe.reached:
        for step in stage:
            if step.user is None or step.user.partition(":")[0] in ROOT:
                continue
            for command in installs.commands(step):
                if command.texts and command.texts[0] in _SYSTEM:
                    detail = f'user {step.user} is to run "{" ".join(command.texts)[:50]}"'
                    yield INSTALL.breach(command.line, detail, "move it above USER, or set USER 0 before it")


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
