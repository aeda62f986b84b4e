"""The running kit as a wheel, so that an image has exactly this version whatever a package index offers.

The same files give the same bytes: the layers above the kit stay in the engine's cache.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from cpr_kit.build import template
from cpr_kit.errors import LackingError
from cpr_kit.version import __version__

DISTRIBUTION = "cpr-kit"
_AT_START = "_cpr_kit_sdk"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_EXTRA = re.compile(r"\s*(?:;|\band\b)\s*extra\s*==\s*['\"]([^'\"]+)['\"]")
_OWN_EXTRAS = re.compile(rf"{DISTRIBUTION}\[([^\]]*)\]")
_WHEEL = "Wheel-Version: 1.0\nGenerator: cpr-kit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write(folder: Path) -> Path:
    """Write `cpr_kit-<version>-py3-none-any.whl` into the folder."""
    info = f"cpr_kit-{__version__}.dist-info"
    files = {**dict(_package()), **{f"{info}/{name}": text.encode() for name, text in _metadata().items()}}
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD").encode()
    path = folder / f"cpr_kit-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files, key=lambda name: (name.startswith(info), name)):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[name])
    return path


def requirements(extras: Iterable[str] = ()) -> list[str]:
    """What the kit itself needs in an image, as requirement lines, with that of some of its extras."""
    asked, lines, pending = {""}, list[str](), ["", *extras]
    while pending:
        extra = pending.pop(0)
        for text in _installed().requires or []:
            wanted = _EXTRA.search(text)
            if (wanted.group(1) if wanted else "") != extra:
                continue
            line = _EXTRA.sub("", text).strip()
            own = _OWN_EXTRAS.match(line)
            if own is None:
                lines.append(line)
                continue
            more = [name.strip() for name in own.group(1).split(",") if name.strip() not in asked]
            asked.update(more)
            pending += more
    return list(dict.fromkeys(lines))


def _package() -> Iterator[tuple[str, bytes]]:
    root = Path(__file__).parents[1]
    yield from _files(root, "cpr_kit")
    # So that the SDK's names are there for whatever Python starts in the image, an entry point of the user's own too.
    yield f"{_AT_START}.py", (root / "sdk" / "finder.py").read_bytes()
    yield f"{_AT_START}.pth", f"import {_AT_START}; {_AT_START}.install()\n".encode()
    # In a checkout the templates stand beside the package; in an installed kit the line above had them.
    if not (root / template.INSTALLED).is_dir():
        yield from _files(template.folder(), f"cpr_kit/{template.INSTALLED}")
        yield f"cpr_kit/{template.INSTALLED}/{template.BASE}", template.base().read_bytes()


def _files(root: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and "__pycache__" not in relative.parts and path.suffix != ".pyc":
            yield f"{prefix}/{relative.as_posix()}", path.read_bytes()


def _installed() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise LackingError(
            f"{DISTRIBUTION} {__version__} is imported from {Path(__file__).parents[2]} but not installed, "
            "so it has no metadata to put into an image; run: pip install -e ."
        ) from error


def _metadata() -> dict[str, str]:
    installed = _installed()
    # An editable install keeps the version it was made with, even when version.py has moved on.
    metadata = re.sub(r"(?m)^Version: .*$", f"Version: {__version__}", installed.read_text("METADATA") or "", count=1)
    return {
        "METADATA": metadata,
        "WHEEL": _WHEEL,
        "entry_points.txt": installed.read_text("entry_points.txt") or "",
    }


def _record(files: dict[str, bytes], own: str) -> str:
    rows = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sorted(files.items())]
    return "\n".join([*rows, f"{own},,", ""])


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
