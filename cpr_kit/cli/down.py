"""`cpr down`: what `cpr up` has made is removed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpr_kit.cli import options, remote

if TYPE_CHECKING:
    from cpr_kit.deploy.apply import Outcome


@click.command("down")
@options.folder
@remote.regions
@remote.yes
@remote.take_lease
@options.json_flag
def command(folder: Path, regions: tuple[str, ...], yes: bool, take_lease: bool, as_json: bool) -> None:
    """Remove the endpoint, the model and its versions of the project in DIR: what `cpr up` has made, nothing else.

    An endpoint that others made, or that serves other models too, stays; so do images in their repositories.

    \b
    Example:
      cpr down iris
    """
    from cpr_kit.deploy import api, render

    config = remote.project(folder, regions)
    plan = api.plan_down(config, regions=regions)
    if not as_json:
        click.echo(render.plan(plan), err=True)
    if plan.changes:
        where = ", ".join(each.region for each in plan.regions if each.changes)
        remote.agreed(f"remove this from {where}", given=yes)
    try:
        with remote.working() as progress:
            results = api.down(config, regions=regions, take_lease=take_lease, progress=progress)
    except api.RegionsFailed as error:
        results = error.results
    remote.outcome(results, _said, as_json=as_json)


def _said(outcome: Outcome) -> str:
    if not outcome.changed:
        return "nothing was there"
    stays = f"; {outcome.endpoint} stays" if outcome.endpoint else ""
    return f"removed {', '.join(outcome.lines)}; nothing that cpr up made is left{stays}"
