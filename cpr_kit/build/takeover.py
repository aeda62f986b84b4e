"""Requirements written for Google's SDK, as an image of the kit needs them.

The kit has counterparts of the SDK's names for prediction, so the SDK itself, 325 MB, is left out where the served code
gets by with those. What the SDK would have brought beside itself, and the code imports, is asked for by name.
"""

from __future__ import annotations

import importlib.metadata
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cpr_kit.build import imports, uses
from cpr_kit.build.classes import Folder, Found, Outside
from cpr_kit.build.requirements import declared, normalised
from cpr_kit.errors import SourceError

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.specifiers import Specifier, SpecifierSet
    from packaging.version import Version

DISTRIBUTION = "google-cloud-aiplatform"

_LINE = f"{DISTRIBUTION}[prediction]"
"""What upstream puts into each of its images, whatever the requirements say."""
_COMMENT = re.compile(r"(?:^|\s)#.*")
_URL = re.compile(r"(?:[a-z]+\+)?[a-z]+://\S+", re.IGNORECASE)
_SOURCES = re.compile(
    r"egg=google[-_.]cloud[-_.]aiplatform(?![\w.-])|/python-aiplatform(?:\.git)?(?:[@#/]|\Z)|/google_cloud_aiplatform-[^/]*\.whl",
    re.IGNORECASE,
)
_NAMES = (b"google.cloud.aiplatform", b"google.cloud import aiplatform", b"vertexai")
_SERVER = ("fastapi", "gunicorn", "httptools", "starlette", "uvicorn", "uvloop")
# The first that takes the Starlette that the kit needs.
_FASTAPI = ">=0.120.1"
_BROUGHT = {
    "docker": "docker",
    "docstring_parser": "docstring_parser",
    "dotenv": "python-dotenv",
    "google.api_core": "google-api-core",
    "google.auth": "google-auth",
    "google.cloud.bigquery": "google-cloud-bigquery",
    "google.cloud.resourcemanager": "google-cloud-resource-manager",
    "google.cloud.resourcemanager_v3": "google-cloud-resource-manager",
    "google.cloud.storage": "google-cloud-storage",
    "google.genai": "google-genai",
    "google.oauth2": "google-auth",
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "httpx": "httpx",
    "proto": "proto-plus",
    "requests": "requests",
    "yaml": "pyyaml",
}
"""Modules that come with the SDK, with what to ask for where it is left out."""


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """The requirements, one a line, and a sentence for each change."""

    text: str
    warnings: tuple[str, ...] = ()


def adapt(text: str, folder: Folder, served: Sequence[Path], *, sdk: bool) -> Adapted:
    """`served` are the files of the served code; `sdk` is `[image] sdk`, which keeps the SDK whatever they use."""
    used = uses.of_sdk(folder, served)
    lines = text.splitlines()
    named = [line for line in lines if _asks_for_sdk(line)]
    if not named and not used and not sdk:
        return Adapted(text=text)
    needed = next((use for use in used if not use.is_provided), None)
    told: list[str] = []
    if sdk or needed or any(_more(line) for line in named):
        if not named and any("--hash" in line for line in lines):
            where = needed.where if needed else "[image] sdk"
            raise SourceError(
                where, f"needs {DISTRIBUTION}; the requirements have hashes, so add it there with its own"
            )
        if not named:
            lines.append(_LINE)
        if needed and not sdk:
            told.append(f"{needed.where} uses {needed.name}, which only the SDK has: {DISTRIBUTION} is in the image")
    elif named:
        lines = [line for line in lines if line not in named]
        told.append(_left_out(named[0]))
        if not any("--hash" in line for line in lines):  # else they hold all that the SDK brought
            told += _bring(lines, folder, served)
    told += _free(lines)
    return Adapted(text="".join(f"{line}\n" for line in lines), warnings=tuple(told))


def is_used_by(packages: Iterable[Path]) -> bool:
    """Whether an extra package's code names the SDK: what it needs is not looked at more closely."""
    return any(name in text for package in packages for text in _texts(package) for name in _NAMES)


def _texts(package: Path) -> Iterator[bytes]:
    if package.is_dir():
        yield from (path.read_bytes() for path in package.rglob("*.py"))
    elif zipfile.is_zipfile(package):
        with zipfile.ZipFile(package) as archive:
            yield from (archive.read(name) for name in archive.namelist() if name.endswith(".py"))
    elif tarfile.is_tarfile(package):
        with tarfile.open(package) as archive:
            members = (archive.extractfile(member) for member in archive if member.name.endswith(".py"))
            yield from (member.read() for member in members if member)


def files(found: Iterable[Found | Outside | Path]) -> list[Path]:
    """Where the classes are written, and the files that are served as they are."""
    return [each if isinstance(each, Path) else each.path for each in found if not isinstance(each, Outside)]


def _asks_for_sdk(line: str) -> bool:
    plain = _COMMENT.sub("", line).strip()
    url = _URL.search(plain)
    return DISTRIBUTION in declared(plain) or (url is not None and _SOURCES.search(url[0]) is not None)


def _more(line: str) -> bool:
    """Whether a line asks for more of the SDK than prediction: its other extras bring libraries of their own."""
    return bool(declared(_COMMENT.sub("", line).strip()).get(DISTRIBUTION, frozenset()) - {"prediction"})


def _left_out(line: str) -> str:
    shown = _COMMENT.sub("", line).partition(" --hash")[0].strip()
    return (
        f'"{shown}" is left out of the image, since the kit has all that the code uses of it; '
        "sdk = true under [image] keeps it"
    )


def _bring(lines: list[str], folder: Folder, served: Sequence[Path]) -> Iterator[str]:
    """Ask for what the code imports and only the SDK would have brought."""
    there = set(declared("\n".join(lines)))
    for path in uses.reachable(folder, served):
        for line, module in imports.imported(folder.tree(path)):
            wanted = next((_BROUGHT[name] for name in _above(module) if name in _BROUGHT), None)
            if wanted is not None and normalised(wanted) not in there:
                there.add(normalised(wanted))
                lines.append(wanted)
                yield f"{path}:{line} imports {module}, which came with the SDK: {wanted} is installed by itself"


def _above(module: str) -> Iterator[str]:
    """`a.b.c` -> a.b.c, a.b, a."""
    words = module.split(".")
    return (".".join(words[:end]) for end in range(len(words), 0, -1))


def _free(lines: list[str]) -> Iterator[str]:
    """Take the version off what is the server's own matter, where the kit's server needs another."""
    floors = _floors()
    for place, line in enumerate(lines):
        asked = _parsed(line)
        floor = floors.get(normalised(asked.name)) if asked else None
        if asked and floor is not None and contradicts(asked.specifier, floor):
            name = f"{asked.name}[{','.join(sorted(asked.extras))}]" if asked.extras else asked.name
            lines[place] = f"{name}; {asked.marker}" if asked.marker else name
            yield f'"{asked}" is installed without its version: the kit\'s server needs {asked.name}{floor}'


def _parsed(line: str) -> Requirement | None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(_COMMENT.sub("", line).strip())
    except InvalidRequirement:  # an option, a URL, nothing
        return None


def _floors() -> dict[str, SpecifierSet]:
    """What the kit needs of its server's packages."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        lines = importlib.metadata.requires("cpr-kit") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    needs = [need for need in map(Requirement, lines) if not (need.marker and "extra" in str(need.marker))]
    found = {normalised(need.name): need.specifier for need in needs if normalised(need.name) in _SERVER}
    return {"fastapi": SpecifierSet(_FASTAPI), **found}


def contradicts(one: SpecifierSet, other: SpecifierSet) -> bool:
    """Whether no version is in both.

    Where there is one, there is one among the versions that they name, or just above one of those.
    """
    from packaging.version import Version

    both = one & other
    named = [Version("0"), *filter(None, map(_version, both))]
    near = (version for each in named for version in (each, Version(f"{each.base_version}.0.0.1")))
    return not any(both.contains(version, prereleases=True) for version in near)


def _version(specifier: Specifier) -> Version | None:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(specifier.version.removesuffix(".*"))
    except InvalidVersion:  # behind === may stand anything
        return None
