"""A folder of artifacts on this machine: which files are in it, and what they hold."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpr_kit.errors import ConfigError, MissingExtra

LEFT_OUT = ("__pycache__", ".DS_Store")
"""Written by Python and by macOS as they look at a folder: with them each look would make new artifacts."""
_PIECE = 1 << 20
_MAX_NAME = 1024
_SETTLED_NS = 2 * 10**9
"""A file that was written this shortly before it was read may be written again within one tick of its clock."""


@dataclass(frozen=True)
class File:
    """`name` is relative to the folder, with forward slashes; `crc32c` as Cloud Storage writes it."""

    name: str
    path: Path
    size: int
    sha256: str
    crc32c: str


@dataclass(frozen=True)
class _Content:
    size: int
    sha256: str
    crc32c: str


_known: dict[Path, tuple[tuple[int, ...], _Content]] = {}
"""What files held when they were read, with what the system said of them then: several regions read them once."""
_reading = threading.Lock()


def files(folder: Path) -> Iterator[File]:
    """Sorted by name. A file is read once by a program, as long as nobody writes it.

    Raises ConfigError for what cannot be artifacts.
    """
    for name, path in walk(folder):
        held = _content(path)
        yield File(name, path, held.size, held.sha256, held.crc32c)


def digest(found: Iterable[File]) -> str:
    """Of names and contents: each name with its length before it, so that no two folders look alike."""
    whole = hashlib.sha256()
    for file in found:
        name = file.name.encode()
        whole.update(len(name).to_bytes(8, "big") + name + bytes.fromhex(file.sha256))
    return whole.hexdigest()


def walk(folder: Path) -> list[tuple[str, Path]]:
    """The names and paths of all files but `LEFT_OUT`, sorted by name. Links are followed inside the folder alone.

    Raises ConfigError for no folder, an empty one, a link that leads out or in circles, and what is no file.
    """
    if not folder.is_dir():
        kind = "a file; name the folder that it is in" if folder.exists() else "not there"
        raise ConfigError(f"the artifacts {folder} are {kind}")
    try:
        root = folder.resolve()
        found = sorted(_below(root, root, "", (root,)))
    except OSError as error:
        raise ConfigError(f"the artifacts {folder} cannot be read: {error}") from error
    if not found:
        raise ConfigError(f"there are no files in the artifacts {folder}; train the model first, or name its folder")
    return found


def _below(root: Path, folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in LEFT_OUT:
                yield from _entry(root, Path(entry.path), prefix + entry.name, above)


def _entry(root: Path, path: Path, name: str, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    _named(name, path)
    if path.is_symlink():
        path = _followed(root, path, above)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        yield from _below(root, path, f"{name}/", (*above, path))
    elif stat.S_ISREG(mode):
        yield name, path
    else:
        raise ConfigError(f"{path} is neither a file nor a folder; take it out of the artifacts")


def _followed(root: Path, path: Path, above: tuple[Path, ...]) -> Path:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{path} is a link to nothing ({path.readlink()}); mend or remove it") from error
    if root not in target.parents:
        raise ConfigError(f"{path} is a link out of the artifacts, to {target}; copy the file there in its place")
    if target in above:
        raise ConfigError(f"{path} is a link to {target}, a folder that it is in; remove it")
    return target


def _named(name: str, path: Path) -> None:
    """Names that an object can have ("About Cloud Storage objects": UTF-8, 1024 bytes, no line ends)."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise ConfigError(f'"{shown}": the name is not UTF-8, as an object\'s must be; rename it') from error
    if size > _MAX_NAME or "\n" in name or "\r" in name:
        shown = json.dumps(str(path), ensure_ascii=False)  # a line end is seen there
        raise ConfigError(f"{shown}: an object's name has at most {_MAX_NAME} bytes and no line end; rename it")


def _content(path: Path) -> _Content:
    with _reading:  # of several regions the first one reads; the others wait, and find it known
        seen = _stat(path)
        found = _known.get(path)
        if found and found[0] == seen:
            return found[1]
        began = time.time_ns()
        content = _read(path)
        *_, modified, changed = seen
        if _stat(path) == seen and began - max(modified, changed) > _SETTLED_NS:
            _known[path] = (seen, content)
        return content


def _stat(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path) -> _Content:
    try:
        import google_crc32c
    except ImportError as error:
        raise MissingExtra("google-crc32c", "gcs") from error
    whole, size = hashlib.sha256(), 0
    crc: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                whole.update(piece)
                crc.update(piece)
                size += len(piece)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return _Content(size, whole.hexdigest(), base64.b64encode(crc.digest()).decode())
