"""From a folder to an image: read, make the context, let the engine build."""

from __future__ import annotations

from cpr_kit.build import context, index, reference, template
from cpr_kit.build.source import Source
from cpr_kit.config import Config
from cpr_kit.contract import ContainerSpec
from cpr_kit.engine.protocol import Build, Engine, Image, Output
from cpr_kit.engine.reaper import temporary_folder

_PREFIX = "cpr-build-"


def _silent(_line: str) -> None:
    pass


def build(
    config: Config, engine: Engine, *, tag: str | None = None, no_cache: bool = False, output: Output = _silent
) -> ContainerSpec:
    """The image of a folder under `tag`, or the name in cpr.toml, or the folder's. Raises SourceError, BuildError."""
    name = reference.checked(tag or config.image.name or reference.default(config.folder))
    source = Source.read(config)
    for warning in source.warnings:
        output(f"warning: {warning}")
    spec = specification(config, name)  # before the engine is called: it refuses what Vertex AI would refuse
    with temporary_folder(_PREFIX) as folder:
        arguments = context.make(source, folder)
        build = Build(
            context=folder,
            tag=name,
            args={**index.proxies(), **arguments},
            platform=config.image.platform,
            no_cache=no_cache,
        )
        engine.build(build, output)
    return spec


def specification(config: Config, image_uri: str) -> ContainerSpec:
    """How an image of this folder is to be started. What a Dockerfile of the user's own cannot hold is said here."""
    serving = template.serving(config) if config.image.dockerfile else {}
    return ContainerSpec.kit(image_uri, env={**serving, **config.image.env}, ports=config.image.ports)


def build_base(
    engine: Engine,
    *,
    tag: str,
    base: str = "python:3.11-slim",
    platform: str | None = None,
    no_cache: bool = False,
    output: Output = _silent,
) -> Image:
    """Make the image of Dockerfile.base, which images of the `python` template can start from."""
    with temporary_folder(_PREFIX) as folder:
        context.make_kit(folder, template.base().read_text("utf-8"), template.find("python"))
        build = Build(
            context=folder,
            tag=reference.checked(tag),
            args={**index.proxies(), "BASE_IMAGE": base},
            platform=platform,
            no_cache=no_cache,
        )
        return engine.build(build, output)
