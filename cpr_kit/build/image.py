"""From a folder to an image: read, make the context, let the engine build."""

from __future__ import annotations

from cpr_kit import serving_spec as specs
from cpr_kit.build import context, index, reference, template, wheel
from cpr_kit.build.source import Source
from cpr_kit.config import Config, ImageSection
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
    spec = specs.of(config, name)  # before the engine is called: it refuses what Vertex AI would refuse
    with temporary_folder(_PREFIX) as folder:
        arguments = context.make(source, folder)
        build = Build(
            context=folder,
            tag=name,
            args={**index.proxies(), **arguments},
            platform=config.image.platform,
            no_cache=no_cache,
        )
        built = engine.build(build, output)
    if specs.has_own_server(config):
        spec = specs.completed(spec, built, names_ports=config.image.names_ports)
    return spec


def specification(config: Config, image_uri: str) -> ContainerSpec:
    """How an image of this folder is to be started, as far as cpr.toml tells."""
    return specs.of(config, image_uri)


def build_base(
    engine: Engine,
    *,
    tag: str,
    base: str = "python:3.11-slim",
    platform: str = ImageSection.platform,
    no_cache: bool = False,
    output: Output = _silent,
) -> Image:
    """Make the image of Dockerfile.base, which images of the `python` template can start from."""
    with temporary_folder(_PREFIX) as folder:
        context.make_kit(folder, template.find("python"), [*wheel.requirements(), *template.KIT_PACKAGES])
        (folder / context.DOCKERFILE).write_text(template.base().read_text("utf-8"), "utf-8")
        context.date(folder)
        build = Build(
            context=folder,
            tag=reference.checked(tag),
            args={**index.proxies(), "BASE_IMAGE": base},
            platform=platform,
            no_cache=no_cache,
        )
        return engine.build(build, output)
