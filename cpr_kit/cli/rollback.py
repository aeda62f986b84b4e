"""`cpr rollback`: back to the version that served before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpr_kit.cli import options, remote

if TYPE_CHECKING:
    from cpr_kit.deploy.apply import Outcome


@click.command("rollback")
@options.folder
@remote.regions
@remote.take_lease
@options.json_flag
def command(folder: Path, regions: tuple[str, ...], take_lease: bool, as_json: bool) -> None:
    """Give all traffic back to the version that was live before, in one step and without a question.

    It takes seconds where that version is still deployed ([deploy] keep_previous), else it is deployed first.

    \b
    Example:
      cpr rollback iris
    """
    from cpr_kit.deploy import api

    config = remote.project(folder, regions)
    try:
        with remote.working() as progress:
            results = api.rollback(config, regions=regions, take_lease=take_lease, progress=progress)
    except api.RegionsFailed as error:
        results = error.results
    remote.outcome(results, _said, as_json=as_json)


def _said(outcome: Outcome) -> str:
    return f"{outcome.version} serves {outcome.endpoint} again"
