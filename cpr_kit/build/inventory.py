"""What is installed in an image, told from its files: Python distributions, Debian packages, Python itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.parser import HeaderParser
from pathlib import PurePosixPath

from cpr_kit.build.requirements import normalised

_METADATA = re.compile(r".*\.dist-info/METADATA|.*\.egg-info(/PKG-INFO)?")
_DPKG = re.compile(r"var/lib/dpkg/status|var/lib/dpkg/status\.d/[^/]+(?<!\.md5sums)")
_SYSTEM = re.compile(r"(etc|usr/lib)/os-release")
_PYVENV = re.compile(r"opt/cpr/pyvenv\.cfg")
_NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_EXTRA = re.compile(r"\bextra\s*==")
_LOCKED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)([^\n]*(?:\n[ \t]+[^\n]*)*)", re.MULTILINE)
_HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")
_LONGEST_LICENCE = 80
"""Some distributions put a licence's whole text where its name belongs."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A Python distribution. `licences` are SPDX expressions or plain names; `hashes` those that a lock allows."""

    name: str
    version: str
    licences: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Package:
    """A Debian package."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Everything in a fixed order. `system` is os-release; `python` the version of the kit's virtual environment."""

    distributions: tuple[Distribution, ...] = ()
    packages: tuple[Package, ...] = ()
    system: Mapping[str, str] = field(default_factory=dict)
    python: str = ""


def wanted(path: str) -> bool:
    """Whether `read` can use the file."""
    return any(pattern.fullmatch(path) for pattern in (_METADATA, _DPKG, _SYSTEM, _PYVENV))


def read(files: Iterable[tuple[str, bytes]], lock: str = "") -> Inventory:
    """From the files that are `wanted`, and the text of the lock that was installed."""
    found: dict[tuple[str, str], Distribution] = {}
    packages: set[tuple[str, str, str]] = set()
    system: dict[str, str] = {}
    python = ""
    for path, content in sorted(files):  # whatever order an engine has
        text = content.decode("utf-8", "replace")
        if _DPKG.fullmatch(path):
            packages.update(_debian(text))
        elif _SYSTEM.fullmatch(path):
            system = _settings(text)
        elif _PYVENV.fullmatch(path):
            settings = _settings(text)
            python = settings.get("version_info") or settings.get("version", "")
        elif (each := _distribution(path, text)) is not None:
            key = (normalised(each.name), each.version)
            known = found.setdefault(key, each)
            found[key] = replace(known, paths=tuple(sorted({*known.paths, *each.paths})))
    hashes = locked(lock)
    return Inventory(
        distributions=tuple(replace(found[key], hashes=hashes.get(key, ())) for key in sorted(found)),
        packages=tuple(Package(name=n, version=v, architecture=a) for n, v, a in sorted(packages)),
        system=system,
        python=python,
    )


def locked(text: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """(name, version) -> the SHA-256 of every file that a lock lets in for it."""
    found = _LOCKED.findall(text)
    return {(normalised(name), version): tuple(sorted(set(_HASH.findall(rest)))) for name, version, rest in found}


def _distribution(path: str, text: str) -> Distribution | None:
    headers = HeaderParser().parsestr(text)
    name, version = (str(headers[field] or "").strip() for field in ("Name", "Version"))
    if not _NAME.fullmatch(name) or not version:
        return None
    expression, licence = str(headers["License-Expression"] or ""), str(headers["License"] or "").strip()
    trove = [line.rpartition(" :: ")[2] for line in headers.get_all("Classifier", []) if line.startswith("License ::")]
    if expression:
        licences = [expression]
    elif licence and "\n" not in licence and len(licence) <= _LONGEST_LICENCE and licence.upper() != "UNKNOWN":
        licences = [licence]
    else:
        named = [each for each in trove if each != "OSI Approved"]
        licences = named or [line for line in licence.splitlines()[:1] if len(line) <= _LONGEST_LICENCE]
    required = [line for line in headers.get_all("Requires-Dist", []) if not _EXTRA.search(line)]
    needs = {normalised(match[1]) for line in required if (match := _NAME.match(line))}
    where = PurePosixPath(path)
    folder = where if where.name.endswith(".egg-info") else where.parent
    return Distribution(
        name=name,
        version=version,
        licences=tuple(sorted(set(licences))),
        needs=tuple(sorted(needs)),
        paths=(f"/{folder}",),
    )


def _debian(text: str) -> Iterator[tuple[str, str, str]]:
    for stanza in text.split("\n\n"):
        fields = HeaderParser().parsestr(stanza.lstrip("\n"))
        # Without a Status it is a distroless image's, which lists only what it has.
        status = str(fields["Status"] or "installed").split()[-1]
        if fields["Package"] and fields["Version"] and status == "installed":
            yield str(fields["Package"]), str(fields["Version"]), str(fields["Architecture"] or "all")


def _settings(text: str) -> dict[str, str]:
    """Lines of NAME=value, quoted or not."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
