"""A requirements file as an image needs it: one file, and nothing in it that names a path of this machine."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from cpr_kit.errors import SourceError

_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S+)\s*\Z")
_EDITABLE = re.compile(r"(-e|--editable)\b")
_FIND_LINKS = re.compile(r"(-f|--find-links)(?:\s*=\s*|\s+)(?!https?://)")
_NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]*)\])?")
_COMMENT = re.compile(r"(^|\s)#.*")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def read(path: Path) -> str:
    """The file's text with the files it includes put in their place. Raises SourceError with file and line."""
    return "".join(f"{line}\n" for _, line in _lines(path, ()))


def declared(text: str) -> dict[str, frozenset[str]]:
    """The distributions that a requirements text names, normalised, with the extras asked for."""
    names: dict[str, frozenset[str]] = {}
    for line in text.splitlines():
        match = _NAME.match(_COMMENT.sub("", line).strip())
        if match and not _URL.match(line.strip()):
            name = normalised(match.group(1))
            extras = frozenset(normalised(extra) for extra in (match.group(2) or "").split(",") if extra.strip())
            names[name] = names.get(name, frozenset()) | extras
    return names


def files(path: Path) -> list[Path]:
    """The file and those it includes, none of which goes into an image: any may name an index with its password."""
    found = [path]
    for _, line in _joined(path):
        include = _INCLUDE.match(plain(line))
        if include and include.group(1) in ("-r", "--requirement") and not _URL.match(include.group(2)):
            found += files(path.parent / include.group(2))
    return found


def plain(line: str) -> str:
    """The line without its comment."""
    return _COMMENT.sub("", line).strip()


def options(text: str) -> str:
    """The lines that say where distributions come from, and how, in place of naming one."""
    return "".join(f"{line}\n" for line in map(plain, text.splitlines()) if line.startswith("-"))


def without(text: str, name: str) -> str:
    """The text without the lines that ask for one distribution."""
    return "".join(line for line in text.splitlines(keepends=True) if name not in declared(line))


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it.

    >>> normalised(" Foo._Bar ")
    'foo-bar'
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def modules(package: Path) -> frozenset[str]:
    """The top-level modules that an extra package brings: a wheel, an sdist, or a folder."""
    if package.is_dir():
        roots = [package / "src", package] if (package / "src").is_dir() else [package]
        names = [entry.stem for root in roots for entry in root.iterdir() if entry.is_dir() or entry.suffix == ".py"]
    elif zipfile.is_zipfile(package):
        with zipfile.ZipFile(package) as archive:
            names = [Path(Path(name).parts[0]).stem for name in archive.namelist()]
    elif tarfile.is_tarfile(package):
        with tarfile.open(package) as sdist:
            names = [Path(part).stem for name in sdist.getnames() for part in Path(name).parts[1:3]]
    else:
        names = []
    return frozenset(names)


def _lines(path: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    """Each line with the place it stands at; included requirements in full, constraints as requirements cannot be."""
    if path in above:
        raise SourceError(above[-1], f"includes {path}, which includes it")
    for where, line in _joined(path):
        plain = _COMMENT.sub("", line).strip()
        include = _INCLUDE.match(plain)
        if include is None:
            _refuse_paths(where, plain, path.parent)
            yield where, line
        elif _URL.match(include.group(2)):
            yield where, line
        elif include.group(1) in ("-r", "--requirement"):
            yield from _lines(_included(where, path.parent / include.group(2)), (*above, path))
        else:
            raise SourceError(where, f'"{plain}" names a second file; write the constraints into {path.name}')


def _joined(path: Path) -> Iterator[tuple[str, str]]:
    """Lines with their continuations."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SourceError(path, f"is not UTF-8: {error}") from error
    except OSError as error:
        raise SourceError(path, f"cannot be read: {error.strerror}") from error
    start, held = 1, ""
    for number, line in enumerate(lines, 1):
        start = start if held else number
        held += line
        if held.endswith("\\") and not held.lstrip().startswith("#") and number < len(lines):
            held = held[:-1]
            continue
        yield f"{path}:{start}", held
        held = ""


def _included(where: str, path: Path) -> Path:
    if not path.is_file():
        raise SourceError(where, f"{path} does not exist")
    return path


def _refuse_paths(where: str, line: str, folder: Path) -> None:
    """A path of this machine is no path of the image; extra packages are copied there, so they are the way."""
    way = "name it in cpr.toml: [model] extra_packages"
    if _EDITABLE.match(line):
        raise SourceError(where, f'"{line}" is an editable install, which an image cannot have; {way}')
    if _FIND_LINKS.match(line):
        raise SourceError(where, f'"{line}" names a folder of this machine; {way}')
    word = re.split(r"[\s;]", line, maxsplit=1)[0]
    path_like = "/" in word or word.endswith((".whl", ".zip", ".gz"))
    if "file://" in line or word.startswith((".", "/", "~")) or (path_like and os.path.exists(folder / word)):  # noqa: PTH110
        raise SourceError(where, f'"{line}" is a path of this machine; {way}')
