"""requirements.lock: every distribution of an image, with its version and its hashes, as uv resolved them.

It lies beside the requirements file. What it was made from is in its head, so that one that has grown old is told.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from cpr_kit.build import index
from cpr_kit.config import Config
from cpr_kit.engine.manifest import digest, file_digest
from cpr_kit.errors import ConfigError, LackingError, MissingExtra, SourceError

FILE = "requirements.lock"
OPTIONS = "options.txt"
"""Where distributions come from, beside it: a lock names no index."""
_HEAD = """\
# Made by `cpr lock`; make it again rather than edit it.
# for: Python {python}, {platform}
# from: {made_from}
"""
_FOR = re.compile(r"^# for: Python (\S+), (\S+)$", re.MULTILINE)
_FROM = re.compile(r"^# from: (\S+)$", re.MULTILINE)
_DECLARING = ("pyproject.toml", "setup.py", "setup.cfg")
_PYTHON = re.compile(r"3\.\d{1,2}\Z")
_BASE = re.compile(r"(?:^|/)python:(3\.\d+)")
_TARGETS = {"linux/amd64": "x86_64-unknown-linux-gnu", "linux/arm64": "aarch64-unknown-linux-gnu"}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is locked: requirement lines, the extra packages' folders and files, and for what they are resolved."""

    lines: tuple[str, ...]
    packages: tuple[Path, ...] = ()
    python: str
    platform: str

    @property
    def digest(self) -> str:
        said = (package / name for package in self.packages if package.is_dir() for name in _DECLARING)
        declared = [f"{path.name} {file_digest(path)}".encode() for path in said if path.is_file()]
        wheels = [line.encode() for line in self._of_wheels()]
        parts = [*(line.encode() for line in self.lines), *declared, *wheels]
        return f"sha256:{digest([*parts, self.python.encode(), self.platform.encode()])}"

    def write(self, folder: Path) -> list[str]:
        """Put the lines into the folder; the files that uv is to read."""
        file = folder / "requirements.in"
        file.write_text("".join(f"{line}\n" for line in (*self.lines, *self._of_wheels())), "utf-8")
        return [str(file), *map(str, self._projects())]

    def _projects(self) -> Iterator[Path]:
        for package in self.packages:
            if package.is_dir():
                yield next(package / name for name in _DECLARING[:2] if (package / name).is_file())

    def _of_wheels(self) -> Iterator[str]:
        for package in self.packages:
            if package.is_file():
                yield from _required(package)


def path_of(requirements: Path | None, folder: Path) -> Path:
    """Where the lock of a requirements file lies."""
    return requirements.with_suffix(".lock") if requirements else folder / FILE


def python_of(config: Config, path: Path, asked: str | None = None) -> str:
    """The Python of the image: as asked for, as its base is named, or as the lock has it. Raises ConfigError."""
    named = _BASE.search(config.image.base)
    known = _FOR.search(path.read_text("utf-8")) if path.is_file() else None
    python = asked or (named[1] if named else None) or (known[1] if known else None)
    if python is None:
        raise ConfigError(
            f"which Python {config.image.base} has cannot be told from its name; say it: cpr lock --python 3.11"
        )
    if not _PYTHON.fullmatch(python):
        raise ConfigError(f'"{python}" is no version of Python to lock for; write it as 3.11')
    return python


def made_for(text: str) -> tuple[str, str]:
    """Python and platform of a lock's text; empty where it does not say."""
    found = _FOR.search(text)
    return (found[1], found[2]) if found else ("", "")


def is_ours(path: Path) -> bool:
    """Whether `cpr lock` made it: other tools have files of that name."""
    return path.is_file() and _FROM.search(path.read_text("utf-8", "replace")) is not None


def check(path: Path, inputs: Inputs) -> None:
    """Raises SourceError when the lock was not made from these."""
    text = path.read_text("utf-8")
    _, platform = made_for(text)
    if platform != inputs.platform:
        raise SourceError(path, f"is for {platform or 'nothing it names'}, not {inputs.platform}; run: cpr lock")
    found = _FROM.search(text)
    if not found or found[1] != inputs.digest:
        raise SourceError(
            path,
            "is older than what it locks: the requirements, an extra package or the kit's own needs have changed; "
            "run: cpr lock",
        )


def make(inputs: Inputs, path: Path, *, upgrade: bool = False, environ: Mapping[str, str] = os.environ) -> int:
    """Resolve, and write the lock; how many distributions are in it. What an older lock has is kept unless `upgrade`.

    Raises MissingExtra without uv, LackingError with uv's words when there is no solution.
    """
    target = _TARGETS.get(inputs.platform)
    if path.is_file() and not is_ours(path):
        raise SourceError(path, "was not made by `cpr lock`, and is not written over; move it away")
    if target is None:
        raise ConfigError(f"a lock for {inputs.platform} cannot be made; the platforms are {', '.join(_TARGETS)}")
    with tempfile.TemporaryDirectory(prefix="cpr-lock-") as name:
        folder = Path(name)
        output = folder / FILE
        if path.is_file() and not upgrade:
            shutil.copyfile(path, output)
        found = index.settings(environ)
        (folder / index.UV_CONFIG).write_text(index.uv_text(found), "utf-8")
        bundle = index.certificates(found, environ)
        variables = index.uv_variables(found, str(bundle) if bundle else None)
        command = [
            *(_uv(), "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"),
            *("--no-emit-index-url", "--no-emit-find-links", "--python-version", inputs.python),
            *("--python-platform", target, "--output-file", str(output), *inputs.write(folder)),
        ]
        env = {**environ, **variables, "UV_CONFIG_FILE": str(folder / index.UV_CONFIG)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LackingError(f"nothing can be locked:\n{done.stderr.strip()}")
        text = output.read_text("utf-8")
    entries = text.replace("\\\n", " ").splitlines()
    if unhashed := [line.strip() for line in entries if line.strip() and "--hash" not in line and line[0] not in "#-"]:
        raise LackingError(
            f"{unhashed[0]} has no hash that a lock could hold; name a version of an index, or do without a lock"
        )
    head = _HEAD.format(python=inputs.python, platform=inputs.platform, made_from=inputs.digest)
    path.write_text(head + text, "utf-8")
    return sum("==" in line and not line.startswith((" ", "#")) for line in text.splitlines())


def _uv() -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except ImportError:
        found = shutil.which("uv")
    if found is None:
        raise MissingExtra("uv", "lock")
    return found


def _required(package: Path) -> list[str]:
    """Requires-Dist of a wheel. Raises SourceError for an archive that does not say it without being built."""
    if not zipfile.is_zipfile(package):
        raise SourceError(package, "does not say what it needs until it is built; to lock, give its folder or a wheel")
    with zipfile.ZipFile(package) as archive:
        name = next((name for name in archive.namelist() if name.endswith(".dist-info/METADATA")), None)
        if name is None:
            raise SourceError(package, "is no wheel: it has no METADATA; to lock, give its folder or a wheel")
        lines = HeaderParser().parsestr(archive.read(name).decode("utf-8")).get_all("Requires-Dist", [])
    return [line for line in lines if "extra ==" not in line]
