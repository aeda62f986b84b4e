"""`cpr doctor`: what would fail, before it does."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpr_kit.cli import options, terminal
from cpr_kit.config import FILE, Config
from cpr_kit.errors import CprError, LackingError

if TYPE_CHECKING:
    from cpr_kit.engine.protocol import Engine

_GIGABYTE = 10**9
_DISK_GB = 3
_TIMEOUT_S = 5
_INDEX = "https://pypi.org/simple"
_PYTHON = (3, 10)
_MARKS = {True: ("ok  ", "green"), False: ("FAIL", "red")}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is empty where nothing is wrong."""

    name: str
    passed: bool
    detail: str
    remedy: str = ""


@click.command("doctor")
@options.folder
@options.engine
@options.json_flag
@click.pass_context
def command(context: click.Context, folder: Path, engine: str | None, as_json: bool) -> None:
    """Find what would fail, before it does.

    Looks at this machine, and at the project in DIR if there is one. Exit code 3 when something is
    missing; each finding says what to do.

    \b
    Example:
      cpr doctor iris
    """
    found = list(_findings(folder.resolve(), engine))
    lines = []
    for finding in found:
        mark, colour = _MARKS[finding.passed]
        lines.append(f"{click.style(mark, fg=colour)}  {finding.name}: {finding.detail}")
        if finding.remedy:
            lines.append(f"      do: {finding.remedy}")
    passed = all(finding.passed for finding in found)
    value = {"passed": passed, "findings": [asdict(finding) for finding in found]}
    terminal.result(value, "\n".join(lines), as_json=as_json)
    context.exit(0 if passed else LackingError.exit_code)


def _findings(folder: Path, engine_name: str | None) -> Iterator[Finding]:
    from cpr_kit.engine.choose import choose

    yield _python()
    yield _project(folder)
    try:
        choice = choose(engine_name)
    except CprError as error:
        yield Finding("engine", False, str(error), "start a container engine, or use --engine process")
        return
    yield Finding("engine", True, choice.reason)
    yield _disk(choice.engine)
    yield _base(folder, choice.engine)
    yield _network()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _PYTHON:
        return Finding("python", False, version, "use Python 3.10 or newer")
    return Finding("python", True, f"{version} at {sys.executable}")


def _project(folder: Path) -> Finding:
    from cpr_kit.build.source import Source

    if not (folder / FILE).exists():
        return Finding("project", True, f"no {FILE} in {folder}, so no project to look at")
    try:
        warnings = Source.read(Config.read(folder)).warnings
    except CprError as error:
        return Finding("project", False, str(error), "mend that line")
    return Finding("project", True, "; ".join(warnings) or f"{folder.name} can be built")


def _disk(engine: Engine) -> Finding:
    """Where images go: the engine's own place, where that is on this machine, else the cache."""
    place = next((path for path in (Path("/var/lib/docker"), Path.home()) if path.exists()), Path("/"))
    if engine.name == "process":
        place = Path.home()
    free = shutil.disk_usage(place).free / _GIGABYTE
    detail = f"{free:.0f} GB free at {place}"
    if free < _DISK_GB:
        return Finding("disk", False, detail, f"free {_DISK_GB} GB; docker system prune removes what is unused")
    return Finding("disk", True, detail)


def _base(folder: Path, engine: Engine) -> Finding:
    if engine.name == "process":
        return Finding("base image", True, "none is needed: the process engine uses this Python")
    base = Config.read(folder).image.base if (folder / FILE).exists() else Config(folder=folder).image.base
    if engine.image(base):
        return Finding("base image", True, f"{base} is here")
    remedy = f"docker pull {base}; or without a registry: cpr base {base}"
    return Finding("base image", False, f"{base} is not here yet", remedy)


def _network() -> Finding:
    """Whether the package index can be reached, through a proxy where one is set."""
    from cpr_kit.build import index

    url = index.settings().get("index-url", _INDEX).split()[0]
    via = next((os.environ[name] for name in ("https_proxy", "HTTPS_PROXY") if os.environ.get(name)), url)
    parts = urllib.parse.urlsplit(via)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return _reached(parts.hostname or "", port, socket.create_connection)


def _reached(host: str, port: int, connect: Callable[..., socket.socket]) -> Finding:
    try:
        connect((host, port), timeout=_TIMEOUT_S).close()
    except OSError as error:
        remedy = "check the network, or set PIP_INDEX_URL to an index that can be reached"
        return Finding("network", False, f"the package index at {host}:{port} does not answer: {error}", remedy)
    return Finding("network", True, f"the package index at {host}:{port} answers")
