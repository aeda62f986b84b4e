"""`cpr init`: a project that works, copied from the templates."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from cpr_kit.cli import options, terminal

NEXT = ("pip install -r requirements.txt", "python train.py", "cpr predict . --json requests/two_rows.json")
KINDS = ("sklearn", "xgboost", "predictor")


@click.command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option("--kind", type=click.Choice(KINDS), default="sklearn", show_default=True, help="What the project serves.")
@options.json_flag
def command(folder: Path, kind: str, as_json: bool) -> None:
    """Make a working project in DIR.

    It has a predictor, its training, a sample request, cpr.toml and a test.

    \b
    Example:
      cpr init iris --kind sklearn
    """
    from cpr_kit.build import template
    from cpr_kit.errors import UsageError

    skeleton = template.folder() / "projects" / kind
    files = sorted(path.relative_to(skeleton) for path in skeleton.rglob("*") if _is_source(path))
    present = [str(path) for path in files if (folder / path).exists()]
    if present:
        raise UsageError(f"{folder} has {', '.join(present)} already; give a folder without them")
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(skeleton / path, folder / path)
    listed = "\n".join(f"  {folder / path}" for path in files)
    steps = "\n  ".join(("next:", f"cd {folder}", *NEXT))
    value = {"folder": str(folder), "kind": kind, "files": [str(path) for path in files]}
    terminal.result(value, f"{listed}\n{steps}", as_json=as_json)


def _is_source(path: Path) -> bool:
    """Installers compile the templates where they stand; a project has no use for that."""
    return path.is_file() and path.suffix != ".pyc"
