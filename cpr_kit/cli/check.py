"""`cpr check`: the contract suite over something that runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpr_kit.cli import options, terminal

if TYPE_CHECKING:
    from cpr_kit.harness.checks import Check

_MARKS = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "breach": ("FAIL", "red")}


@click.command("check")
@options.target
@options.artifacts
@options.engine
@options.env
@options.routes
@options.verbose
@options.json_flag
def command(target: str, as_json: bool, **values: object) -> None:
    """Ask TARGET all that Vertex AI expects of it.

    Each rule that it breaks is named. A project's own requests are its [[check]] sections. Exit
    code 1 when a rule is broken.

    \b
    Example:
      cpr check iris
    """
    from cpr_kit.cli.target import Options, opened
    from cpr_kit.config import Config
    from cpr_kit.harness import checks
    from cpr_kit.harness.target import samples_of

    chosen = Options(**values)  # type: ignore[arg-type]
    samples = samples_of(Config.read(Path(target).resolve())) if Path(target).is_dir() else ()
    with opened(target, chosen) as (server, start):
        found = checks.run(server, samples)
    if start is not None:
        found.append(checks.listens_on_its_port(start.spec, start.engine, artifact_uri=start.artifacts))
    _show(found, as_json=as_json)
    click.get_current_context().exit(0 if all(check.passed for check in found) else 1)


def _show(found: list[Check], *, as_json: bool) -> None:
    broken = sum(not check.passed for check in found)
    lines = []
    for check in found:
        mark, colour = _MARKS[check.severity]
        lines.append(f"{click.style(mark, fg=colour)}  {check.name}: {check.detail}")
        if not check.passed:
            lines.append(f"      rule: {check.rule}")
    lines.append(f"{len(found)} checks, {broken} broken" if broken else f"{len(found)} checks, none broken")
    value = {"passed": not broken, "checks": [dataclasses.asdict(check) for check in found]}
    terminal.result(value, "\n".join(lines), as_json=as_json)
