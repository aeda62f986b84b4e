"""`cpr check`: a Dockerfile before anything is built from it, and the contract suite over something that runs."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpr_kit.cli import options, terminal
from cpr_kit.errors import UsageError

if TYPE_CHECKING:
    from cpr_kit.build.lint.finding import Finding
    from cpr_kit.build.lint.look import Look
    from cpr_kit.config import Config
    from cpr_kit.harness.checks import Check

_MARKS = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "breach": ("FAIL", "red")}
_DOCKERFILES = ("dockerfile", "containerfile")
_LEAST_PATIENCE_S = 15.0


@click.command("check")
@options.target
@options.artifacts
@options.engine
@options.env
@options.routes
@click.option(
    "--request",
    "requests",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A request to ask beside those of cpr.toml; .csv is text/csv, all else JSON. May be repeated.",
)
@click.option(
    "--context",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder that a Dockerfile is built from; default: that of its cpr.toml, or where its files are.",
)
@click.option(
    "--sealed",
    is_flag=True,
    help="Run the image as uid 65534 with a read-only root and a tmpfs at /tmp, as hardened clusters do.",
)
@options.verbose
@options.json_flag
def command(target: str, requests: tuple[Path, ...], context: Path | None, as_json: bool, **values: object) -> None:
    """Ask TARGET all that Vertex AI expects of it.

    TARGET is a folder, an image, a URL, an application of this folder (module:name), or a Dockerfile, which
    is read and not built. Each rule that it breaks is named. A project's own requests are its [[check]]
    sections. Exit code 1 when a rule is broken.

    \b
    Example:
      cpr check iris
      cpr check iris/Dockerfile
      cpr check app.main:app --request request.json
    """
    from cpr_kit.cli.target import Options, serving
    from cpr_kit.config import Config

    app = target if _is_application(target) else None
    target = "." if app else target
    chosen = Options(app=app, **values)  # type: ignore[arg-type]
    if _is_dockerfile(target):
        look = _look_at(Path(target), context, chosen.container_port)
        _show(look, [], as_json=as_json)
        click.get_current_context().exit(0 if look.passed else 1)
    if context is not None:
        raise UsageError(f'--context belongs to a Dockerfile, and "{target}" is none')
    config = serving(Config.read(Path(target).resolve()), app) if Path(target).is_dir() else None
    own = _own_dockerfile(config, Path(target), chosen.container_port) if config is not None else None
    if own is not None and not own.passed:
        # A build takes minutes, and would end in an image that fails as these lines say.
        _show(own, [], as_json=as_json)
        click.get_current_context().exit(1)
    found = _asked(target, chosen, config, requests)
    _show(own, found, as_json=as_json)
    click.get_current_context().exit(0 if all(check.passed for check in found) else 1)


def _asked(target: str, chosen: Any, config: Config | None, requests: tuple[Path, ...]) -> list[Check]:
    """What the contract suite finds at the target, started where it does not run yet.

    A server that others wrote is started once before that: of its program, its port and its health, what fails?
    """
    from cpr_kit import serving_spec
    from cpr_kit.cli.target import at_url, is_url, startable
    from cpr_kit.harness import checks, foreign
    from cpr_kit.harness.endpoint import READY_TIMEOUT_S
    from cpr_kit.harness.target import Sample, Target, samples_of

    samples = [*(samples_of(config) if config is not None else ())]
    for path in requests:
        content_type = "text/csv" if path.suffix.lower() == ".csv" else "application/json"
        samples.append(Sample(name=str(path), body=path.read_bytes(), content_type=content_type))
    if is_url(target):
        return checks.run(at_url(target, chosen), samples)
    start = startable(target, chosen)
    options = {"artifact_uri": start.artifacts, "sealed": chosen.sealed}
    found: list[Check] = []
    if config is None or serving_spec.has_own_server(config):
        found = foreign.run(start.spec, start.engine, **options)
        if not all(check.passed for check in found):
            return found
    began = time.monotonic()
    with start.endpoint() as endpoint:
        took = time.monotonic() - began
        found += checks.run(Target.of(endpoint), samples)
    # A server that listens elsewhere is never ready: wait for it as long as the first start lets expect.
    patience = min(READY_TIMEOUT_S, _LEAST_PATIENCE_S + 2 * took)
    found.append(checks.listens_on_its_port(start.spec, start.engine, ready_timeout_s=patience, **options))
    return found


def _is_application(target: str) -> bool:
    """`module:name` with the module's file here; else it is an image with its tag."""
    module, separator, name = target.partition(":")
    if not separator or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        return False
    path = Path(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _is_dockerfile(target: str) -> bool:
    """Any file is one; a name such as Dockerfile that is no file is a mistake, and not an image's name."""
    path = Path(target)
    if path.is_file():
        return True
    name = path.name.lower()
    meant = name in _DOCKERFILES or name.endswith(tuple(f".{each}" for each in _DOCKERFILES))
    if meant and not path.exists():
        raise UsageError(f"{target} does not exist; name the Dockerfile with its folder")
    return False


def _look_at(path: Path, context: Path | None, port: int | None) -> Look:
    from cpr_kit.build.lint import look
    from cpr_kit.config import FILE, Config
    from cpr_kit.contract import DEFAULT_PORT

    folder, certain = (context.resolve(), True) if context is not None else look.folder_of(path, Path.cwd())
    ports = Config.read(folder).image.ports if (folder / FILE).is_file() else ()
    asked = port or next(iter(ports), DEFAULT_PORT)
    shown = os.path.relpath(folder)
    terminal.note(f"read as built from {'this folder' if shown == '.' else shown}, asked on port {asked}")
    return look.at(path, context=folder, port=asked, certain=certain)


def _own_dockerfile(config: Config, target: Path, port: int | None) -> Look | None:
    """The Dockerfile that cpr.toml names, looked at before it is built; None where a template makes the image."""
    named = config.image.dockerfile
    if named is None or not (target / named).is_file():
        return None
    return _look_at(target / named, target, port)


def _show(look: Look | None, found: list[Check], *, as_json: bool) -> None:
    lines = [line for finding in (look.findings if look else ()) for line in _of_finding(look, finding)]
    broken = sum(not check.passed for check in found)
    for check in found:
        lines.append(f"{_mark(check.severity)}  {check.name}: {check.detail}")
        if not check.passed:
            lines.append(f"      rule: {check.rule}")
    value: dict[str, Any] = {"passed": not broken and (look is None or look.passed)}
    if look is not None:
        breaches = sum(finding.severity == "breach" for finding in look.findings)
        notes = len(look.findings) - breaches
        value |= {"dockerfile": str(look.path), "findings": [_as_value(look, each) for each in look.findings]}
        if not found:
            lines.append(f"{look.path}: {_counted(breaches, 'breach', 'breaches')}, {_counted(notes, 'note', 'notes')}")
    if found or look is None:
        lines.append(f"{len(found)} checks, {broken} broken" if broken else f"{len(found)} checks, none broken")
        value["checks"] = [dataclasses.asdict(check) for check in found]
    terminal.result(value, "\n".join(lines), as_json=as_json)


def _of_finding(look: Look | None, finding: Finding) -> list[str]:
    assert look is not None
    lines = [f"{_mark(finding.severity)}  {_place(look, finding)}:{finding.line} {finding.name}: {finding.detail}"]
    if finding.severity == "breach":
        lines.append(f"      rule: {finding.rule}")
    return [*lines, f"      do: {finding.instead}"]


def _as_value(look: Look, finding: Finding) -> dict[str, Any]:
    return {**dataclasses.asdict(finding), "path": _place(look, finding)}


def _place(look: Look, finding: Finding) -> str:
    """The Dockerfile as it was named, or a file of its folder as it is reached from here."""
    if not finding.path or look.context is None:
        return str(look.path)
    return os.path.relpath(look.context / finding.path)


def _counted(number: int, one: str, more: str) -> str:
    return f"{number or 'no'} {one if number == 1 else more}"


def _mark(severity: str) -> str:
    text, colour = _MARKS[severity]
    return click.style(text, fg=colour)
