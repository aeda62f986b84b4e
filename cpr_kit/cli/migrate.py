"""`cpr migrate`: a project written for google-cloud-aiplatform becomes one of the kit's, code unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpr_kit.cli import options, terminal
from cpr_kit.config import FILE, Config

if TYPE_CHECKING:
    from cpr_kit.migrate.comparison import Comparison
    from cpr_kit.migrate.project import Project

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("migrate")
@options.folder
@click.option("--predictor", metavar="MODULE:CLASS", help="The predictor, where several could be meant.")
@click.option("--handler", metavar="MODULE:CLASS", help="The handler, where several could be meant.")
@click.option("--base", metavar="IMAGE", help="The image to start from; default: what the project's build says.")
@options.artifacts
@click.option("--write/--no-write", default=True, show_default=True, help="Write cpr.toml, or only show it.")
@click.option("--force", is_flag=True, help="Write over a cpr.toml that is there.")
@click.option("--compare", is_flag=True, help="Build both ways on the docker engine, and measure both.")
@click.option("--request", type=_FILE, metavar="FILE", help="The body to ask with --compare; default: the first found.")
@click.option("--quick", is_flag=True, help="With --compare: each thing once and shortly.")
@click.option("--markdown", is_flag=True, help="With --compare: the table as Markdown, and nothing else.")
@options.verbose
@options.json_flag
def command(folder: Path, as_json: bool, **values: Any) -> None:
    """Make a project written for google-cloud-aiplatform one of the kit's.

    DIR holds a predictor or a handler written against google.cloud.aiplatform.prediction. Its code stays as
    it is: cpr.toml is all that is written, and says where each value was found.

    \b
    Example:
      cpr migrate iris --compare
    """
    folder = folder.resolve()
    existing = (folder / FILE).exists() and not values["force"]
    if existing and values["write"] and not values["compare"]:
        from cpr_kit.errors import UsageError

        raise UsageError(f"{folder / FILE} is there already; --force writes over it, --no-write only shows")
    quiet = as_json or values["markdown"]
    if existing and values["compare"]:
        facts, config = _kept(folder)
    else:
        facts, config = _migrated(folder, values, quiet=quiet)
    if values["compare"]:
        comparison = _compared(config, values)
        facts["comparison"] = comparison.facts()
        if not as_json:
            click.echo(_table(comparison, markdown=values["markdown"]))
    if as_json:
        terminal.result(facts, "", as_json=True)


def _kept(folder: Path) -> tuple[dict[str, Any], Config]:
    terminal.note(f"{folder / FILE} is there already, and is what is compared")
    return {"folder": str(folder), "written": None}, Config.read(folder)


def _migrated(folder: Path, values: dict[str, Any], *, quiet: bool) -> tuple[dict[str, Any], Config]:
    """Read the folder, show and write cpr.toml."""
    from cpr_kit.errors import UsageError
    from cpr_kit.migrate import project, settings

    wanted = project.Wanted(**{name: values[name] for name in ("predictor", "handler", "base", "artifacts")})
    found = project.read(folder, wanted)
    text = settings.text(found.config, found.reasons)
    path = found.config.folder / FILE
    if path.exists() and values["write"] and not values["force"]:
        if values["compare"]:
            return _kept(path.parent)
        raise UsageError(f"{path} is there already; --force writes over it, --no-write only shows")
    if values["write"]:
        path.write_text(text, "utf-8")
    if not quiet:
        click.echo(_told(found, text, path if values["write"] else None))
    facts = {
        "folder": str(found.config.folder),
        "toml": text,
        "written": str(path) if values["write"] else None,
        "found": dict(found.reasons),
        "notes": list(found.notes),
    }
    return facts, found.config


def _told(found: Project, text: str, path: Path | None) -> str:
    lines = [text.rstrip(), ""]
    lines += [f"- {note}" for note in found.notes]
    lines += ["", f"{path} written" if path else "nothing written"]
    return "\n".join(lines)


def _compared(config: Config, values: dict[str, Any]) -> Comparison:
    from cpr_kit.engine.choose import choose
    from cpr_kit.migrate import comparison
    from cpr_kit.migrate.measure import Effort, Request

    choice = choose("docker")
    terminal.note(choice.reason)
    body = values["request"] or next((config.folder / check.request for check in config.checks), None)
    subject = comparison.Subject(
        config=config,
        request=Request.read(body) if body else None,
        effort=Effort.quick() if values["quick"] else Effort(),
        warm=not values["quick"],
    )
    with terminal.build_display(verbose=values["verbose"]) as display:
        return comparison.compare(subject, choice.engine, display)


def _table(comparison: Comparison, *, markdown: bool) -> str:
    from cpr_kit.migrate import table

    return table.markdown(comparison) if markdown else "\n".join(["", *table.lines(comparison)])
