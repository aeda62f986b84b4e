"""An image context's `image.json`: what the process engine installs and starts, and the keys of its cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cpr_kit.errors import BuildError, EngineUnavailable

FILE = "image.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Paths are absolute. `dependencies` are what the kit itself needs."""

    kit: Path
    dependencies: tuple[str, ...]
    requirements: Path | None
    lock: Path | None = None
    extra_packages: tuple[Path, ...]
    code: Path
    env: Mapping[str, str]
    entrypoint: tuple[str, ...]
    ports: tuple[int, ...]

    @classmethod
    def read(cls, context: Path) -> Manifest:
        """Raises EngineUnavailable for a context that only a container engine can build."""
        path = context / FILE
        if not path.exists():
            raise EngineUnavailable(
                "a Dockerfile of one's own, or a foreign image, is something that only a container engine can build: "
                "start Docker"
            )
        try:
            table = json.loads(path.read_text("utf-8"))
            return cls(
                kit=context / table["kit"],
                dependencies=tuple(table["dependencies"]),
                requirements=context / table["requirements"] if table["requirements"] else None,
                lock=context / table["lock"] if table["lock"] else None,
                extra_packages=tuple(context / name for name in table["extra_packages"]),
                code=context / table["code"],
                env=table["env"],
                entrypoint=tuple(table["entrypoint"]),
                ports=tuple(table["ports"]),
            )
        except (KeyError, TypeError, ValueError, OSError) as exc:
            raise BuildError(f"reading {FILE}", (f"{type(exc).__name__}: {exc}",)) from exc

    @property
    def environment_key(self) -> str:
        """The same for two builds exactly if they install the same things with the same Python."""
        parts = [sys.version.encode(), sys.base_prefix.encode(), *(text.encode() for text in self.dependencies)]
        if self.requirements:
            parts.append(tree_digest(self.requirements.parent).encode())
        if self.lock:
            parts.append(tree_digest(self.lock.parent).encode())
        for package in self.extra_packages:
            content = tree_digest(package) if package.is_dir() else file_digest(package)
            parts += [os.fsencode(package.name), content.encode()]
        return digest(parts)

    @property
    def lock_fits(self) -> bool:
        """Whether there is a lock for this machine's Python and platform. Another is of no use here."""
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
        here = f"# for: Python {sys.version_info[0]}.{sys.version_info[1]}, {sys.platform}/{machine}\n"
        return self.lock is not None and here in self.lock.read_text("utf-8")

    @property
    def installs(self) -> list[list[str]]:
        """The arguments of each `pip install`."""
        packages = list(map(str, self.extra_packages))
        if self.lock and self.lock_fits:
            options = str(self.lock.with_name("options.txt"))
            exact = ["--require-hashes", "--requirement", options, "--requirement", str(self.lock)]
            return [exact, ["--no-deps", *packages]] if packages else [exact]
        wanted, named = [*self.dependencies, *packages], list[str]()
        if self.requirements and _says_something(self.requirements):
            named = ["--requirement", str(self.requirements)]
            if "--hash" in self.requirements.read_text("utf-8", "replace"):  # then pip wants one for everything
                return [wanted, named]
        return [[*wanted, *named]] if wanted or named else []


def digest(parts: Iterable[bytes]) -> str:
    """SHA-256 over the parts, kept apart by their lengths."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree_digest(folder: Path) -> str:
    """Over names, kinds and contents of all that is below `folder`; links count as links."""
    return digest(part for path in sorted(folder.rglob("*")) for part in _facts(path, folder))


def _facts(path: Path, folder: Path) -> tuple[bytes, bytes, bytes]:
    name = os.fsencode(path.relative_to(folder))
    if path.is_symlink():
        return name, b"link", os.fsencode(path.readlink())
    if path.is_dir():
        return name, b"folder", b""
    return name, b"program" if path.stat().st_mode & 0o111 else b"file", path.read_bytes()


def _says_something(requirements: Path) -> bool:
    lines = requirements.read_text("utf-8", "replace").splitlines()
    return any(line.strip() and not line.lstrip().startswith("#") for line in lines)
