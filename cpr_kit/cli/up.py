"""`cpr up`: from the image to an endpoint that serves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpr_kit.cli import options, remote, terminal
from cpr_kit.errors import CprError

if TYPE_CHECKING:
    from cpr_kit.config import Config
    from cpr_kit.deploy.apply import Outcome
    from cpr_kit.deploy.plan_file import Plan
    from cpr_kit.engine.protocol import Engine


@click.command("up")
@options.folder
@remote.regions
@remote.canary
@click.option(
    "--plan",
    "planned",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Do what `cpr plan --out FILE` has written, without a question; refused if something has changed since.",
)
@remote.yes
@remote.take_lease
@options.engine
@options.json_flag
def command(
    folder: Path,
    regions: tuple[str, ...],
    canary: int | None,
    planned: Path | None,
    yes: bool,
    take_lease: bool,
    engine: str | None,
    as_json: bool,
) -> None:
    """Deploy the project in DIR: push, upload, deploy, ask, and shift the traffic.

    What is there already is left as it is, so a second run changes nothing, and a run that was interrupted is finished
    by the next one. With --canary the new version gets a share of the traffic first; it is promoted, or taken back, by
    the project's [[check]] requests and by its latency against the old one.

    Exit code 1 when the new version did not hold: the old one serves as before. 4 when Vertex AI refused.

    \b
    Example:
      cpr up iris --canary 10%
    """
    from cpr_kit.deploy.plan_file import Plan
    from cpr_kit.engine.choose import choose

    config = remote.project(folder, regions, files=True)
    choice = choose(engine)
    terminal.note(choice.reason)
    failed: dict[str, CprError] = {}
    if planned:
        plan = Plan.read(planned)
    else:
        plan, failed = _looked(config, regions, canary, choice.engine)
        _show(plan, as_json=as_json)
        if plan.changes:
            remote.agreed(f"deploy {config.deploy.endpoint}", given=yes)
    exact = planned is not None
    _deploy(config, plan, failed, regions, choice.engine, exact=exact, take_lease=take_lease, as_json=as_json)


def _looked(
    config: Config, regions: tuple[str, ...], canary: int | None, engine: Engine
) -> tuple[Plan, dict[str, CprError]]:
    """The plan, of those regions that could be asked: the others keep nobody waiting."""
    from cpr_kit.build import state
    from cpr_kit.deploy import api
    from cpr_kit.deploy.plan_file import Plan

    source = state.read(config)
    try:
        with remote.working() as progress:
            return api.plan(config, regions=regions, canary=canary, source=source, engine=engine, progress=progress), {}
    except api.RegionsFailed as error:
        if not error.results.done:
            raise
        share = config.deploy.canary if canary is None else canary
        return Plan(regions=tuple(error.results.done.values()), canary=share), dict(error.results.failed)


def _show(plan: Plan, *, as_json: bool) -> None:
    """On the way to the result, so that standard output is the result's alone."""
    from cpr_kit.deploy import render

    if not as_json:
        click.echo(render.plan(plan), err=True)


def _deploy(
    config: Config,
    plan: Plan,
    failed: dict[str, CprError],
    regions: tuple[str, ...],
    engine: Engine,
    *,
    exact: bool,
    take_lease: bool,
    as_json: bool,
) -> None:
    from cpr_kit.deploy import api, render

    try:
        with remote.working() as progress:
            results = api.up(
                config,
                plan=plan,
                exact=exact,
                regions=() if failed else regions,
                engine=engine,
                take_lease=take_lease,
                progress=progress,
            )
    except api.RegionsFailed as error:
        results = error.results
    if failed:
        results = api.Results(done=results.done, failed={**failed, **results.failed})
    network = api.network(config, regions=tuple(results.done)) if results.done else ()
    if network and any(each.changed for each in results.done.values()):
        click.echo(f"in your network:\n{render.network(network)}", err=True)
    remote.outcome(results, _said, as_json=as_json)


def _said(outcome: Outcome) -> str:
    if not outcome.changed:
        return f"nothing to do; {outcome.version} serves {outcome.endpoint}"
    return f"{outcome.version} serves {outcome.endpoint}"
