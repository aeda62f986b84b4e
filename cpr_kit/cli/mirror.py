"""`cpr mirror`: an image from one registry to another, by its digest."""

from __future__ import annotations

import click

from cpr_kit.cli import options, terminal


@click.command("mirror")
@click.argument("image")
@click.option(
    "--to",
    "targets",
    multiple=True,
    required=True,
    metavar="REPO",
    help="Where to: a repository of Artifact Registry, or a whole name; may be repeated. What ends in a slash gets "
    "the image's own name behind it.",
)
@options.json_flag
def command(image: str, targets: tuple[str, ...], as_json: bool) -> None:
    """Copy IMAGE from its registry to another one: the same digest, without a container engine.

    What the other has already is not sent, and a copy that broke off goes on where it stopped. An image for several
    platforms is copied whole.

    \b
    Example:
      cpr mirror us-central1-docker.pkg.dev/p/serving/iris:1 --to europe-west4-docker.pkg.dev/p/serving
    """
    from cpr_kit.cli.push import STOPPED
    from cpr_kit.cli.pushed import Pushed
    from cpr_kit.deploy.registry.check import check
    from cpr_kit.deploy.registry.mirror import mirror
    from cpr_kit.deploy.registry.names import aimed

    names = [aimed(each, image) for each in targets]
    pushed = Pushed(image)
    with terminal.ending(STOPPED):
        for name in names:
            check(name.partition("@")[0], None)
        for name in names:
            pushed.add(name, lambda name=name: mirror(image, name, terminal.note), last=len(names) == 1)  # type: ignore[misc]
    pushed.record()
    pushed.show(as_json=as_json)
