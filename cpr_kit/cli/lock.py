"""`cpr lock`: every version and hash of an image's distributions, in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from cpr_kit.cli import options, terminal


@click.command("lock")
@options.folder
@click.option("--python", metavar="3.X", help="The base image's; default: as its name or the old lock says.")
@click.option("--platform", metavar="OS/ARCH", help="The platform of the image; default: as cpr.toml says.")
@click.option("--upgrade", is_flag=True, help="Take the newest versions, not those of the old lock.")
@click.option("--check", is_flag=True, help="Write nothing; exit code 2 when the lock is missing or old.")
@options.json_flag
def command(folder: Path, python: str | None, platform: str | None, upgrade: bool, check: bool, as_json: bool) -> None:
    """Write requirements.lock: what an image of DIR gets, with hashes.

    From then on `cpr build` installs exactly that, and says so when the requirements have changed since.

    \b
    Example:
      cpr lock iris
    """
    from cpr_kit.build import context, lock
    from cpr_kit.build.source import Source
    from cpr_kit.config import FILE, Config
    from cpr_kit.errors import SourceError
    from cpr_kit.serving_spec import is_foreign

    config = Config.read(folder.resolve())
    config = replace(config, image=replace(config.image, platform=platform or config.image.platform))
    source = Source.read(config)
    if is_foreign(config):
        raise SourceError(config.folder / FILE, "names an image with its own server, into which nothing is installed")
    if source.dockerfile is not None:
        raise SourceError(source.dockerfile, "installs what it likes; a lock is for the kit's own templates")
    path = lock.path_of(source.requirements, config.folder)
    inputs = context.locked(source, lock.python_of(config, path, python))
    if check:
        if not path.is_file():
            raise SourceError(path, "does not exist; run: cpr lock")
        lock.check(path, inputs)
        terminal.result({"lock": str(path), "current": True}, f"{path} is current", as_json=as_json)
        return
    count = lock.make(inputs, path, upgrade=upgrade)
    facts = {"lock": str(path), "distributions": count, "python": inputs.python, "platform": inputs.platform}
    terminal.result(
        facts, f"{path}  {count} distributions for Python {inputs.python}, {inputs.platform}", as_json=as_json
    )
