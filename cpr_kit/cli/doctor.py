"""`cpr doctor`: what would fail, before it does."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpr_kit.cli import options, remote, terminal
from cpr_kit.config import FILE, Config
from cpr_kit.errors import CprError, LackingError, UsageError
from cpr_kit.finding import Finding

if TYPE_CHECKING:
    from cpr_kit.engine.protocol import Engine

_GIGABYTE = 10**9
_DISK_GB = 3
_TIMEOUT_S = 5
_INDEX = "https://pypi.org/simple"
_PYTHON = (3, 10)
_MARKS = {True: ("ok  ", "green"), False: ("FAIL", "red")}
_NOTE = ("note", "yellow")


@click.command("doctor")
@options.folder
@options.engine
@click.option("--deploy", is_flag=True, help="Look at all that a deployment of the project needs, too.")
@click.option("--region", "regions", multiple=True, metavar="REGION", help="With --deploy: in place of cpr.toml's.")
@click.option("--no-run", is_flag=True, help="With --deploy: do not start the image here.")
@options.json_flag
@click.pass_context
def command(
    context: click.Context,
    folder: Path,
    engine: str | None,
    deploy: bool,
    regions: tuple[str, ...],
    no_run: bool,
    as_json: bool,
) -> None:
    """Find what would fail, before it does.

    Looks at this machine, and at the project in DIR if there is one. With --deploy also at Google Cloud, as
    [deploy] of cpr.toml names it: credentials, API, permissions, quota, repository, image, artifacts, accounts
    and the endpoint, in each region; then the image is started here and asked the project's [[check]] requests.
    Nothing is changed. Exit code 3 when something is missing; each finding says what to do.

    \b
    Example:
      cpr doctor iris
      cpr doctor iris --deploy
    """
    if not deploy and (regions or no_run):
        raise UsageError(f"{'--region' if regions else '--no-run'} belongs to --deploy, which is missing")
    folder = folder.resolve()
    found = list(_findings(folder, engine))
    if deploy:
        found += _of_deployment(folder, engine, regions, runs=not no_run)
    lines = []
    for finding in found:
        mark, colour = _NOTE if finding.note else _MARKS[finding.passed]
        lines.append(f"{click.style(mark, fg=colour)}  {finding.name}: {finding.detail}")
        if finding.remedy:
            lines.append(f"      do: {finding.remedy}")
    passed = all(finding.passed for finding in found)
    value = {"passed": passed, "findings": [asdict(finding) for finding in found]}
    terminal.result(value, "\n".join(lines), as_json=as_json)
    context.exit(0 if passed else LackingError.exit_code)


def _of_deployment(folder: Path, engine_name: str | None, regions: tuple[str, ...], *, runs: bool) -> Iterator[Finding]:
    """The findings of each region; the image is one, and is started once."""
    from cpr_kit import check_files, serving_spec
    from cpr_kit.deploy.doctor import findings as doctor
    from cpr_kit.deploy.doctor import image as doctor_image
    from cpr_kit.deploy.project import from_config
    from cpr_kit.engine.choose import choose

    try:
        config = Config.read(folder)
        remote.complete(config, regions)
        check_files.check(folder, config.checks)
        engine = choose(engine_name).engine
        targets = from_config.targets(config, serving_spec.known(config, engine), regions=regions)
        names = [config.image.name, *(each.image for each in targets)]
        image = next((each for each in names if each and engine.image(each)), targets[0].image)
    except CprError as error:
        yield doctor.refusal("deployment", error, "mend that, and look again")
        return
    for warning in dict.fromkeys(each for target in targets for each in from_config.warnings(config, target)):
        yield Finding.noted("deployment", warning)
    for target in targets:
        for finding in doctor.findings(target, engine, image=image):
            yield replace(finding, name=f"{target.region}: {finding.name}") if len(targets) > 1 else finding
    if runs:
        yield from doctor_image.local_run(targets[0], engine, image)


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
        return Finding("project", False, str(error), "mend that, and look again")
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
    base = Config(folder=folder).image.base
    with contextlib.suppress(CprError):  # which is a finding of the project's already
        base = Config.read(folder).image.base
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
