"""How the image of a folder is to be started: what cpr.toml says, and the image itself where cpr.toml is silent.

Whoever builds an image and whoever deploys it read it here, so that both mean the same container.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cpr_kit.config import Config, ServeSection
from cpr_kit.contract import DEFAULT_PORT, KIT_HEALTH_ROUTE, KIT_PREDICT_ROUTE, ContainerSpec
from cpr_kit.errors import SpecError
from cpr_kit.prebuilt import catalogue

if TYPE_CHECKING:
    from cpr_kit.engine.protocol import Engine, Image

FOREIGN = "foreign"
"""The template of an image that has its own server: base, command and arguments, and nothing of the kit."""

_SERVE_NAMES = {"workers": "VERTEX_CPR_WEB_CONCURRENCY"}  # the name that upstream's images know


def is_foreign(config: Config) -> bool:
    return config.image.template == FOREIGN and config.image.dockerfile is None


def has_own_server(config: Config) -> bool:
    """Whether the image may say with EXPOSE what cpr.toml leaves out: see `completed`."""
    return config.image.dockerfile is not None or is_foreign(config)


def of(config: Config, image_uri: str) -> ContainerSpec:
    """Known before a build. What a Dockerfile of the user's own cannot hold is said here.

    Routes that nobody names are the kit's, and those of a foreign or prebuilt image Vertex AI's own, as is the
    prebuilt one's port.
    """
    image = config.image
    is_prebuilt = catalogue.is_prebuilt(image_uri)
    is_kits = not is_foreign(config) and not is_prebuilt
    return ContainerSpec(
        image_uri=image_uri,
        command=image.command,
        args=image.args,
        env={**(serving(config) if image.dockerfile else {}), **image.env},
        ports=() if is_prebuilt and not image.names_ports else image.ports,
        predict_route=image.predict_route or (KIT_PREDICT_ROUTE if is_kits else None),
        health_route=image.health_route or (KIT_HEALTH_ROUTE if is_kits else None),
        shared_memory_size_mb=image.shared_memory_mb,
    )


def known(config: Config, engine: Engine) -> ContainerSpec:
    """Of an image that was built before: an image with a server of its own may say its port, where it is here."""
    spec = of(config, config.image.name or config.folder.name)
    image = engine.image(spec.image_uri) if has_own_server(config) else None
    return spec if image is None else completed(spec, image, names_ports=config.image.names_ports)


def completed(spec: ContainerSpec, image: Image, *, names_ports: bool) -> ContainerSpec:
    """For an image with a server of its own: its one exposed port, where no port was named.

    Raises SpecError when it exposes several, of which none is the default, and when it starts nothing.
    """
    if not (spec.command or spec.args or image.entrypoint or image.command):
        raise SpecError(
            f"{spec.image_uri} has neither ENTRYPOINT nor CMD, so it starts nothing; "
            'write one into its Dockerfile, or [image] command = ["program", "argument"]'
        )
    if names_ports or not image.ports or DEFAULT_PORT in image.ports:
        return spec
    if len(image.ports) > 1:
        exposed = ", ".join(map(str, sorted(image.ports)))
        raise SpecError(
            f"{spec.image_uri} exposes {exposed}; say which serves HTTP: [image] ports = [{image.ports[0]}]"
        )
    return replace(spec, ports=image.ports)


def serving(config: Config) -> dict[str, str]:
    """The variables for what [serve] sets to something else than its default, for a model that is in the image, and for
    pickles that are pinned.
    """
    env = {}
    if config.image.bake is not None:
        env["CPR_IMAGE_BAKE"] = PurePosixPath(config.image.bake).as_posix()
    if config.model.trusted_digests:
        env["CPR_MODEL_TRUSTED_DIGESTS"] = ",".join(config.model.trusted_digests)
    for key, default in ServeSection.defaults().items():
        value = getattr(config.serve, key)
        if value != default:
            env[_SERVE_NAMES.get(key, f"CPR_SERVE_{key.upper()}")] = _text(value)
    return env


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
