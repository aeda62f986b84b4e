"""`cpr status`: what serves where."""

from __future__ import annotations

from pathlib import Path

import click

from cpr_kit.cli import options, remote, terminal

_REFUSED = 4
_NONE = 1


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
    cpr up; an endpoint that is not there. Exit code 1 when there is no endpoint in any region.

    \b
    Example:
      cpr status iris
    """
    from cpr_kit.build import state
    from cpr_kit.deploy import api, render
    from cpr_kit.engine.choose import choose

    config = remote.project(folder, regions)
    source = None if no_folder else state.read(config)
    found = api.status(config, regions=regions, folder=not no_folder, source=source, engine=choose(engine).engine)
    terminal.result(found.to_json(), render.status(found), as_json=as_json)
    codes = {region.exit_code for region in found.regions if region.error}
    if codes:  # as of the other commands: that which all share, else 4
        click.get_current_context().exit(codes.pop() if len(codes) == 1 else _REFUSED)
    if not any(region.endpoint for region in found.regions):
        terminal.note("nothing of this project is deployed; cpr up deploys it")
        click.get_current_context().exit(_NONE)
    click.get_current_context().exit(1 if by_code and not found.passed else 0)
