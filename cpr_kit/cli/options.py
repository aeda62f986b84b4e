"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])
Decorator = Callable[[_F], _F]

json_flag: Decorator[Any] = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")

engine: Decorator[Any] = click.option(
    "--engine",
    type=click.Choice(["auto", "docker", "process"]),
    envvar="CPR_ENGINE",
    help="What runs containers: docker, or process where there is no engine.  [default: auto]",
)

folder: Decorator[Any] = click.argument(
    "folder", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="[DIR]"
)

target: Decorator[Any] = click.argument("target", default=".", metavar="[TARGET]")

artifacts: Decorator[Any] = click.option(
    "--artifacts", metavar="PATH|gs://", help="The model's files; default: artifacts of cpr.toml."
)

verbose: Decorator[Any] = click.option("-v", "--verbose", is_flag=True, help="Show every line of the build.")

sbom: Decorator[Any] = click.option(
    "--sbom",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what is in the image, and under which licences, as CycloneDX JSON.",
)

env: Decorator[Any] = click.option(
    "--env", "-e", multiple=True, metavar="NAME=VALUE", help="A variable; may be repeated."
)


def routes(function: _F) -> _F:
    """Routes and port of an image that this kit did not make; without them Vertex AI's own defaults."""
    for option in (
        click.option("--predict-route", metavar="PATH", help="Of an image or URL; default: Vertex AI's own."),
        click.option("--health-route", metavar="PATH", help="Of an image or URL; default: Vertex AI's own."),
        click.option("--container-port", type=int, metavar="N", help="First port of an image; default: 8080."),
    ):
        function = option(function)
    return function
