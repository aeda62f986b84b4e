"""`cpr logs`: what an endpoint's containers have written."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cpr_kit.cli import options, remote


@click.command("logs")
@options.folder
@remote.regions
@click.option("--since", default="10m", show_default=True, metavar="TIME", help="90s, 10m, 2h, 1d, or a time in UTC.")
@click.option("--deployed-model", metavar="ID", help="Of this one alone; cpr status --json has the ids.")
@click.option("--severity", metavar="LEVEL", help="From this one up: INFO, WARNING, ERROR, ...")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print each entry as one JSON object a line.")
def command(
    folder: Path,
    regions: tuple[str, ...],
    since: str,
    deployed_model: str | None,
    severity: str | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Show what the containers of the project's endpoint wrote, from Cloud Logging.

    One line an entry: its time in UTC, its severity, the deployed model and the replica, the message.

    \b
    Example:
      cpr logs iris --since 1h --severity WARNING
      cpr logs iris --follow
    """
    from cpr_kit.deploy import api, render

    config = remote.project(folder, regions)
    several = len(regions or config.deploy.regions) > 1
    for entry in api.logs(
        config,
        regions=regions,
        since=since,
        deployed_model=deployed_model,
        severity=severity,
        follow=follow,
    ):
        click.echo(json.dumps(entry.to_json()) if as_json else render.entry(entry, with_region=several))
