"""`cpr base`: a base image without a registry."""

from __future__ import annotations

import time

import click

from cpr_kit.cli import options, terminal


@click.command("base")
@click.argument("name")
@click.option("--kit", is_flag=True, help="Make the kit's own base image (Dockerfile.base) under NAME instead.")
@click.option(
    "--from", "base", metavar="IMAGE", default="python:3.11-slim", show_default=True, help="With --kit: its base."
)
@options.verbose
@options.json_flag
def command(name: str, kit: bool, base: str, verbose: bool, as_json: bool) -> None:
    """Make a base image where no registry is.

    NAME is made from Debian's packages. It needs a container engine and mmdebstrap, and takes about
    half a minute. `FROM NAME` then resolves.

    \b
    Example:
      cpr base python:3.11-slim
    """
    from cpr_kit.build import image as images
    from cpr_kit.engine import base_image
    from cpr_kit.engine.choose import choose

    engine = choose("docker").engine
    began = time.monotonic()
    with terminal.build_display(verbose=verbose) as display:
        if kit:
            image = images.build_base(engine, tag=name, base=base, output=display)
        else:
            image = base_image.make(name, engine, display)
    seconds = time.monotonic() - began
    text = f"{name}  made in {seconds:.1f} s, {image.size / 1e6:.0f} MB"
    terminal.result({"image": name, "id": image.id, "seconds": round(seconds, 1)}, text, as_json=as_json)
