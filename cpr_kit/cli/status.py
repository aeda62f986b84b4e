"""`cpr status`: what serves where."""

from __future__ import annotations

from pathlib import Path

import click

from cpr_kit.cli import options, remote, terminal

_REFUSED = 4


@click.command("status")
@options.folder
@remote.regions
@click.option("--no-folder", is_flag=True, help="Do not compare with the image and the artifacts of DIR.")
@click.option("--exit-code", "by_code", is_flag=True, help="Exit code 1 when something drifts.")
@options.engine
@options.json_flag
def command(
    folder: Path, regions: tuple[str, ...], no_folder: bool, by_code: bool, engine: str | None, as_json: bool
) -> None:
    """Show endpoints, versions, digests, traffic, replicas and age of the project in DIR, in each region.

    Drift is named: an image or artifacts that differ between regions, or from DIR; deployed models that are not of
    cpr up; an endpoint that is not there.

    \b
    Example:
      cpr status iris
    """
    from cpr_kit.deploy import api, render
    from cpr_kit.engine.choose import choose

    found = api.status(folder, regions=regions, folder=not no_folder, engine=choose(engine).engine)
    terminal.result(found.to_json(), render.status(found), as_json=as_json)
    if any(region.error for region in found.regions):
        click.get_current_context().exit(_REFUSED)
    click.get_current_context().exit(1 if by_code and not found.passed else 0)
