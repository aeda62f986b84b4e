"""`cpr plan`: what `cpr up` would do."""

from __future__ import annotations

from pathlib import Path

import click

from cpr_kit.cli import options, remote, terminal


@click.command("plan")
@options.folder
@remote.regions
@remote.canary
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the plan; `cpr up --plan FILE` does exactly that, or refuses.",
)
@click.option("--exit-code", "by_code", is_flag=True, help="Exit code 1 when there is something to do.")
@options.engine
@options.json_flag
def command(
    folder: Path,
    regions: tuple[str, ...],
    canary: int | None,
    out: Path | None,
    by_code: bool,
    engine: str | None,
    as_json: bool,
) -> None:
    """Show what `cpr up` would create (+), change (~), remove (-) and keep (=) for the project in DIR.

    It reads [deploy] of cpr.toml and what exists, and changes nothing. Each step has its reason, and how long it
    takes where that can be known.

    \b
    Example:
      cpr plan iris
      cpr plan iris --out iris.plan && cpr up iris --plan iris.plan
    """
    from cpr_kit.build import state
    from cpr_kit.deploy import api, render
    from cpr_kit.engine.choose import choose

    config = remote.project(folder, regions, files=True)
    with remote.working() as progress:
        plan = api.plan(
            config,
            regions=regions,
            canary=canary,
            source=state.read(config),
            engine=choose(engine).engine,
            progress=progress,
        )
    if out:
        plan.write(out)
        terminal.note(f"written to {out}; cpr up --plan {out} does exactly this, as long as nothing has changed")
    network = api.network(config, regions=regions)
    text = render.plan(plan) + (f"\n\nin your network:\n{render.network(network)}" if network else "")
    value = {**plan.to_json(), "network": [vars(step) for step in network]}
    terminal.result(value, text, as_json=as_json)
    click.get_current_context().exit(1 if by_code and plan.changes else 0)
