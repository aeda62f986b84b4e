"""How the image of a folder is to be started: what cpr.toml says, and the image itself where cpr.toml is silent."""

from __future__ import annotations

from dataclasses import replace

from cpr_kit.build import rules, template
from cpr_kit.config import Config
from cpr_kit.contract import DEFAULT_PORT, KIT_HEALTH_ROUTE, KIT_PREDICT_ROUTE, ContainerSpec
from cpr_kit.engine.protocol import Image
from cpr_kit.errors import SpecError


def of(config: Config, image_uri: str) -> ContainerSpec:
    """Known before a build. What a Dockerfile of the user's own cannot hold is said here.

    Routes that nobody names are the kit's, and those of a foreign image Vertex AI's own.
    """
    image = config.image
    serving = template.serving(config) if image.dockerfile else {}
    is_kits = not rules.is_foreign(config)
    return ContainerSpec(
        image_uri=image_uri,
        command=image.command,
        args=image.args,
        env={**serving, **image.env},
        ports=image.ports,
        predict_route=image.predict_route or (KIT_PREDICT_ROUTE if is_kits else None),
        health_route=image.health_route or (KIT_HEALTH_ROUTE if is_kits else None),
        shared_memory_size_mb=image.shared_memory_mb,
    )


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
