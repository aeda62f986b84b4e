"""`cpr push`: an image of this machine's engine into the repositories that it is deployed from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpr_kit.cli import options, terminal

if TYPE_CHECKING:
    from cpr_kit.config import Config

STOPPED = "stopped; what has arrived in the registry is kept, and is not sent again"


@click.command("push")
@options.folder
@click.option("--image", metavar="NAME", help="The image to push; default: name of cpr.toml, or the folder's.")
@click.option(
    "--to",
    "targets",
    multiple=True,
    metavar="REPO",
    help="Where to: a repository of Artifact Registry, or a whole name; may be repeated. Default: the image's own "
    "name, or that name in the repository of each region of [deploy].",
)
@options.engine
@options.json_flag
def command(folder: Path, image: str | None, targets: tuple[str, ...], engine: str | None, as_json: bool) -> None:
    """Push the image of the project in DIR, only the layers that are missing.

    Before a byte is sent: the name fits the region of [deploy], the repository exists and may be written to, and
    the image is for linux/amd64. Several repositories get the same digest: the first from here, the others from it.

    Logs in with `docker login`, a docker credential helper, or application-default credentials.
    The digests are also noted in pushed.json of the kit's cache (CPR_CACHE); nothing reads it but you.

    \b
    Example:
      cpr push iris
      cpr push iris --to europe-west4-docker.pkg.dev/my-project/serving
    """
    from cpr_kit.build import reference
    from cpr_kit.cli.pushed import Pushed
    from cpr_kit.config import Config
    from cpr_kit.deploy.registry.check import check
    from cpr_kit.deploy.registry.mirror import mirror
    from cpr_kit.deploy.registry.push import push
    from cpr_kit.engine.choose import choose

    config = Config.read(folder.resolve())
    source = reference.checked(image or config.image.name or reference.default(config.folder))
    wanted = _wanted(config, source, targets)
    choice = choose(engine)
    terminal.note(choice.reason)
    with terminal.ending(STOPPED):
        for name, region in wanted.items():
            check(name, region)
        first, *others = wanted
        pushed = Pushed(source)
        pushed.add(first, lambda: push(choice.engine, first, source=source, report=terminal.note), last=True)
        for other in others:
            pushed.add(
                other,
                lambda name=other: mirror(first, name, terminal.note, engine=choice.engine),  # type: ignore[misc]
            )
    pushed.record()
    pushed.show(as_json=as_json)


def _wanted(config: Config, source: str, targets: tuple[str, ...]) -> dict[str, str | None]:
    """Each name to push to, and the region that it must fit."""
    from cpr_kit.deploy.project import regions
    from cpr_kit.deploy.registry.names import aimed

    if targets:
        return {aimed(each, source): None for each in targets}
    if config.deploy.regions:
        return {regions.in_region(source, each): each for each in config.deploy.regions}
    return {aimed(source, source): None}
