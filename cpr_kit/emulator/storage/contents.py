"""The bytes of objects: files of random names, which never change once they are whole.

    FOLDER/lock        held by the one process that uses the folder
    FOLDER/drafts/     being written
    FOLDER/objects/    whole

The index says which of them count. What a killed process left uncounted is removed at the next start.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import google_crc32c

from cpr_kit.emulator import private
from cpr_kit.errors import UsageError

CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Digest:
    """Checksums in base64."""

    size: int
    crc32c: str
    md5: str


class Contents:
    """Threads may share it."""

    def __init__(self, folder: Path) -> None:
        self._drafts, self._objects = folder / "drafts", folder / "objects"
        try:
            for path in (self._drafts, self._objects):
                private.folder(path)
            self._lock: int | None = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(
                f"objects cannot be stored in {folder} ({error.strerror}: {error.filename}): "
                "take another folder, which is beside the file of --state"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise UsageError(
                f"another process stores its objects in {folder}: stop it, or take another folder"
            ) from None

    def close(self) -> None:
        """As often as one likes."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def sweep(self, objects: set[str], drafts: set[str]) -> None:
        """Remove all files but these."""
        for folder, kept in ((self._objects, objects), (self._drafts, drafts)):
            for path in folder.iterdir():
                if path.name not in kept:
                    path.unlink()

    def draft(self, key: str | None = None) -> Draft:
        """A file to write; with a key, the one that was begun under it, as far as it came."""
        return Draft(self._drafts / (key or uuid.uuid4().hex))

    def keep(self, draft: Draft) -> str:
        """The draft's file is an object's from now on; its key."""
        draft.write([])  # an empty one has no file yet
        draft.release()
        draft.path.replace(self._objects / draft.path.name)
        return draft.path.name

    def link(self, key: str) -> str:
        """The same content under another key, without a copy where the file system can."""
        new = uuid.uuid4().hex
        try:
            os.link(self._objects / key, self._objects / new)
        except OSError:  # no links here, or as many as a file may have
            with contextlib.ExitStack() as undo:
                undo.callback(self.remove, new)
                shutil.copyfile(self._objects / key, self._objects / new)
                undo.pop_all()
        return new

    def open(self, key: str) -> BinaryIO:
        return (self._objects / key).open("rb")

    def remove(self, key: str) -> None:
        """Readers that have it open go on reading it."""
        (self._objects / key).unlink(missing_ok=True)


class Draft:
    """A file that is being written. As a context, it is gone at the end unless it was kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size if path.exists() else 0
        self._file: int | None = None
        self._sums: tuple[Any, Any] | None = None if self.size else _sums()

    def __enter__(self) -> Draft:  # noqa: PYI034  typing.Self is not in Python 3.10
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.discard()

    def write(self, pieces: Iterable[bytes | memoryview]) -> None:
        """At its end."""
        data = b"".join(pieces)
        sums, self._sums = self._sums, None
        file, left = self._opened(), memoryview(data)
        while left:  # near the end of a disk, a write may take a part without an error
            count = os.pwrite(file, left, self.size)
            left, self.size = left[count:], self.size + count
        for digest in sums or ():
            digest.update(data)
        self._sums = sums

    def truncate(self, size: int) -> None:
        os.ftruncate(self._opened(), size)
        self.size, self._sums = size, None

    def digest(self) -> Digest:
        """Of all that is in it."""
        crc32c, md5 = self._sums or self._read()
        return Digest(size=self.size, crc32c=_text(crc32c.digest()), md5=_text(md5.digest()))

    def release(self) -> None:
        """Close the file until it is written again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def discard(self) -> None:
        self.release()
        self.path.unlink(missing_ok=True)

    def _opened(self) -> int:
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._file

    def _read(self) -> tuple[Any, Any]:
        self._sums = sums = _sums()
        self._opened()
        with self.path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                for digest in sums:
                    digest.update(chunk)
        return sums


def _sums() -> tuple[Any, Any]:
    return google_crc32c.Checksum(), hashlib.md5(usedforsecurity=False)  # type: ignore[no-untyped-call]


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
