"""The folder that a Dockerfile is built from, and where its files are in the image."""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cpr_kit.build import context
from cpr_kit.build.dockerfile import Word
from cpr_kit.build.ignore import Ignore
from cpr_kit.build.stages import Recipe, Stage, Step

_WILD = re.compile(r"[*?\[]")
_URL = re.compile(r"(?:https?|git|ssh)://|git@")
_NEVER_WANTED = frozenset({".git", ".venv", "__pycache__", "node_modules"})
_MOST, _MOST_COMPARED = 20_000, 500
"""A folder with more files than this is not searched for more: a look takes a second, not a coffee."""


@dataclass(frozen=True)
class Files:
    """`certain` is False where nobody said that this is the folder."""

    root: Path
    left_out: Ignore
    certain: bool = True

    @classmethod
    def of(cls, root: Path, *, certain: bool = True) -> Files:
        """Raises SourceError for a .dockerignore that Docker would refuse."""
        return cls(root, Ignore.read(root, ()), certain)

    def matching(self, source: str) -> list[str]:
        """The paths of the folder that a source of COPY stands for, .dockerignore not yet asked."""
        name = relative(source)
        try:
            if not _WILD.search(name):
                return [name] if (self.root / name).exists() else []
            return sorted(path.relative_to(self.root).as_posix() for path in self.root.glob(name))
        except (ValueError, IndexError, NotImplementedError, re.error, OSError):
            return []  # no name that a file can have

    def has_file(self, name: str) -> bool:
        try:
            return (self.root / name).is_file()
        except (ValueError, OSError):
            return False

    def leaves_out(self, name: str) -> bool:
        if name == ".":
            return False
        return self.left_out.prunes(name) if (self.root / name).is_dir() else self.left_out.leaves_out(name)

    def nearest(self, source: str) -> str | None:
        """A name that may have been meant: another case, another folder, one letter."""
        wanted = relative(source)
        names = list(self.names())
        same = [name for name in names if posixpath.basename(name) == posixpath.basename(wanted)]
        by_case = [name for name in names if name.lower() == wanted.lower()]
        alike = [name for name in names if name.count("/") == wanted.count("/")][:_MOST_COMPARED]
        close = by_case or difflib.get_close_matches(wanted, alike, 1, 0.75) or same
        return close[0] if close else None

    def names(self, below: str = ".") -> Iterator[str]:
        """Files and folders that reach the builder, from the top down."""
        return (name for name in self._listed if below == "." or name.startswith(f"{below}/"))

    @cached_property
    def _listed(self) -> tuple[str, ...]:
        listed: list[str] = []
        pending = deque([""])
        while pending and len(listed) < _MOST:
            for entry in _entries(self.root / pending[0]):
                name = f"{pending[0]}{entry.name}"
                is_folder = entry.is_dir(follow_symlinks=False)
                if self.left_out.prunes(name) if is_folder else self.left_out.leaves_out(name):
                    continue
                listed.append(name)
                if is_folder and entry.name not in _NEVER_WANTED:
                    pending.append(f"{name}/")
            pending.popleft()
        return tuple(listed[:_MOST])

    def below(self, source: str) -> Iterator[str]:
        """The files and folders that a source brings."""
        for name in self.matching(source):
            if not self.leaves_out(name):
                yield from self.names(name) if (self.root / name).is_dir() else (name,)

    def mode(self, name: str) -> int:
        return (self.root / name).lstat().st_mode & 0o777

    def text(self, name: str) -> str | None:
        """A file's text; None where it has none."""
        try:
            return (self.root / name).read_bytes().decode("utf-8-sig")
        except (OSError, ValueError):
            return None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A COPY or ADD that takes files of the context; sources and target with their variables, None if unknown."""

    step: Step
    stage: Stage
    sources: tuple[tuple[Word, str | None], ...]
    target: str | None
    into_folder: bool

    @property
    def known(self) -> Iterator[tuple[Word, str]]:
        """The sources that name files of the folder, as far as they can be known."""
        for word, source in self.sources:
            if source is not None and not is_url(source) and not of_the_kit(source):
                yield word, source


def copies(stage: Stage) -> Iterator[Copied]:
    for step in stage:
        instruction = step.instruction
        if instruction.keyword not in ("COPY", "ADD") or instruction.flag("from") is not None:
            continue
        *sources, target = instruction.words or [Word("", 0)]
        place = step.expanded(target.text)
        if place is not None and not place.startswith("/"):
            # A relative target is below a folder that the base image may decide.
            place = None if step.folder is None else f"{step.folder.rstrip('/')}/{place}"
        yield Copied(
            step=step,
            stage=stage,
            sources=tuple((word, step.expanded(word.text)) for word in sources if not word.text.startswith("<<")),
            target=place and posixpath.normpath(place),
            into_folder=len(sources) > 1 or target.text.endswith(("/", ".")),
        )


def origin(recipe: Recipe, files: Files, path: str) -> tuple[str, Copied] | None:
    """The file of the context that is at `path` in the image, and what copied it there; the last copy wins."""
    for stage in reversed(recipe.lineage):
        for copied in reversed(list(copies(stage))):
            for _, source in copied.known:
                for name in files.matching(source):
                    found = _within(files, name, copied, path)
                    if found is not None and not files.leaves_out(found):
                        return found, copied
    return None


def _within(files: Files, name: str, copied: Copied, path: str) -> str | None:
    target = copied.target
    if target is None:
        return None
    if (files.root / name).is_dir():
        below = posixpath.relpath(path, target)
        found = posixpath.normpath(posixpath.join(name, below))
        return found if not below.startswith("..") and files.has_file(found) else None
    inside = posixpath.join(target, posixpath.basename(name))
    return name if path == inside or (path == target and not copied.into_folder) else None


def relative(source: str) -> str:
    """A source of COPY as a path of the folder: builders take a leading slash, and stop at its top."""
    return posixpath.normpath("/" + source).lstrip("/") or "."


def is_url(source: str) -> bool:
    return bool(_URL.match(source))


def of_the_kit(source: str) -> bool:
    """What `cpr build` lays into the context beside the user's files."""
    return relative(source).split("/")[0] == context.KIT
