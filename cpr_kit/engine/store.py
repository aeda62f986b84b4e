"""Folders under one cache root, each made once, and the records of the images that refer to them.

    <root>/<kind>/<key>/        an entry; whole only when <key>.ready stands beside it
    <root>/<kind>/<key>.lock    held alone by who makes or removes the entry, shared by who uses it
    <root>/images/<name>.json   a record; its `entries` map kinds to keys

An entry is made where it stays, not renamed into place: the scripts of a virtual environment hold its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Entry = tuple[str, str]
"""(kind, key)"""

_LONGEST_STEM = 200


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def default(cls, environ: Mapping[str, str] = os.environ) -> Store:
        """CPR_CACHE, else cpr-kit under XDG_CACHE_HOME, else ~/.cache/cpr-kit."""
        if chosen := environ.get("CPR_CACHE"):
            return cls(Path(chosen).absolute())
        caches = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home()) / ".cache"
        return cls((Path(caches) / "cpr-kit").absolute())

    def path(self, entry: Entry) -> Path:
        return self.root / entry[0] / entry[1]

    def provide(self, entry: Entry, make: Callable[[Path], None]) -> Path:
        """The folder of `entry`; `make` fills it if it is not whole yet. Two programs never fill one at once."""
        folder = self.path(entry)
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._ready(entry))  # not touch(): that would bring back what a prune has just removed
            return folder
        with self._locked(entry, fcntl.LOCK_EX):
            if not self._ready(entry).exists():
                shutil.rmtree(folder, ignore_errors=True)
                try:
                    folder.mkdir(parents=True)
                    make(folder)
                    self._ready(entry).touch()
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
        return folder

    @contextlib.contextmanager
    def held(self, *entries: Entry) -> Iterator[None]:
        """No prune takes these away meanwhile. Raises FileNotFoundError when one already has."""
        with contextlib.ExitStack() as stack:
            for entry in entries:
                stack.enter_context(self._locked(entry, fcntl.LOCK_SH))
                if not self._ready(entry).exists():
                    raise FileNotFoundError(self.path(entry))
                self._ready(entry).touch()
            yield

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        path = self._record(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(record, indent=1))
        draft.replace(path)

    def read(self, name: str) -> dict[str, Any] | None:
        return _parsed(self._record(name))

    def records(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self.root.glob("images/*.json")):
            record = _parsed(path)
            if record is not None:
                yield record

    def touch(self, name: str) -> None:
        """Note that the record is in use: `prune` goes by that."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._record(name))

    def remove(self, name: str) -> None:
        self._record(name).unlink(missing_ok=True)

    def prune(self, entries_unused_s: float = 0.0, records_unused_s: float = math.inf) -> list[Path]:
        """Remove records, then entries that no record names, if unused for so long. What is held stays."""
        now = time.time()
        for path in self.root.glob("images/*.json"):
            if now - _used(path) > records_unused_s:
                path.unlink(missing_ok=True)
        named = {entry for record in self.records() for entry in record["entries"].items()}
        removed = []
        for lock in sorted(self.root.glob("*/*.lock")):
            entry = (lock.parent.name, lock.stem)
            if entry not in named and self._removed(entry, entries_unused_s):
                removed.append(self.path(entry))
        return removed

    def _removed(self, entry: Entry, unused_s: float) -> bool:
        try:
            with self._locked(entry, fcntl.LOCK_EX | fcntl.LOCK_NB):
                if time.time() - _used(self._ready(entry)) < unused_s:
                    return False
                self._ready(entry).unlink(missing_ok=True)
                shutil.rmtree(self.path(entry), ignore_errors=True)
                self._lock(entry).unlink(missing_ok=True)
        except BlockingIOError:
            return False
        return True

    @contextlib.contextmanager
    def _locked(self, entry: Entry, how: int) -> Iterator[None]:
        path = self._lock(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, how)
                if _is(path, descriptor):  # prune removes lock files too, perhaps while this waited
                    yield
                    return
            finally:
                os.close(descriptor)

    def _lock(self, entry: Entry) -> Path:
        return self.root / entry[0] / f"{entry[1]}.lock"

    def _ready(self, entry: Entry) -> Path:
        return self.root / entry[0] / f"{entry[1]}.ready"

    def _record(self, name: str) -> Path:
        stem = urllib.parse.quote(name, safe="")
        # A reference may be longer than a file's name.
        stem = stem if len(stem) <= _LONGEST_STEM else hashlib.sha256(name.encode()).hexdigest()
        return self.root / "images" / f"{stem}.json"


def _parsed(path: Path) -> dict[str, Any] | None:
    """A record; None when there is none, or none that can be read: a build writes it anew."""
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return record


def _used(path: Path) -> float:
    """When the file was last touched; 0 when there is none."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
