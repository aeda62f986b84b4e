"""`cpr build`: a folder becomes an image."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpr_kit.cli import options, terminal

if TYPE_CHECKING:
    from cpr_kit.config import Config


@click.command("build")
@options.folder
@click.option("-t", "--tag", metavar="IMAGE", help="Name of the image; default: name of cpr.toml, or the folder's.")
@click.option("--base", metavar="IMAGE", help="The image to start from; default: base of cpr.toml.")
@click.option("--platform", metavar="OS/ARCH", help="The platform to build for.  [default: linux/amd64]")
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@click.option(
    "--eject",
    "ejected",
    type=click.Path(path_type=Path),
    metavar="DIR2",
    help="Build nothing; write Dockerfile, entry point, scripts and code into DIR2, which is yours from then on.",
)
@options.sbom
@options.engine
@options.verbose
@options.json_flag
def command(
    folder: Path,
    tag: str | None,
    base: str | None,
    platform: str | None,
    no_cache: bool,
    ejected: Path | None,
    sbom: Path | None,
    engine: str | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Build the image of the project in DIR.

    The code is read, never imported; nothing is written into DIR.

    \b
    Example:
      cpr build iris -t us-central1-docker.pkg.dev/my-project/serving/iris
    """
    from cpr_kit.build.source import Source
    from cpr_kit.cli import target
    from cpr_kit.config import Config
    from cpr_kit.engine.choose import choose

    config = Config.read(folder.resolve())
    image = config.image
    image = dataclasses.replace(image, base=base or image.base, platform=platform or image.platform)
    config = dataclasses.replace(config, image=image)
    if ejected:
        _eject(config, ejected, tag, as_json=as_json)
        return
    if sbom:
        from cpr_kit.build import sbom as bill

        bill.check(sbom)
    choice = choose(engine)
    terminal.note(choice.reason)
    began = time.monotonic()
    spec = target.build(config, choice.engine, tag=tag, no_cache=no_cache, verbose=verbose)
    built = choice.engine.image(spec.image_uri)
    if sbom:
        count = bill.write(sbom, choice.engine, spec.image_uri, lock=Source.read(config).lock)
        terminal.note(f"{sbom}: {count} components")
    seconds = time.monotonic() - began
    facts = {"image": spec.image_uri, "id": built.id if built else None, "engine": choice.engine.name}
    size = f", {built.size / 1e6:.0f} MB" if built and built.size else ""
    terminal.result(
        {**facts, "seconds": round(seconds, 1)}, f"{spec.image_uri}  built in {seconds:.1f} s{size}", as_json=as_json
    )


def _eject(config: Config, folder: Path, tag: str | None, *, as_json: bool) -> None:
    from cpr_kit.build import eject
    from cpr_kit.build.source import Source

    config = dataclasses.replace(config, image=dataclasses.replace(config.image, name=tag or config.image.name))
    source = Source.read(config)
    for warning in source.warnings:
        terminal.note(f"warning: {warning}")
    files = eject.eject(source, folder)
    text = f"{folder}  {len(files)} files, yours from now on; {eject.README} says what each part does"
    terminal.result({"folder": str(folder), "files": files}, text, as_json=as_json)
