"""What a registry, or this machine's engine, has under an image's name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cpr_kit.deploy.registry.client import Client, Manifest
from cpr_kit.deploy.registry.names import asked_at, stays_in_engine
from cpr_kit.engine.protocol import Engine
from cpr_kit.errors import RegistryError

PLATFORM = "linux/amd64"
"""What Vertex AI runs ("Custom container requirements")."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """An image at a registry.

    `digest` is the manifest's (an index's where there are several platforms); "" for an engine's image, which gets
    its digest by a push. `config` is the image's id, that of linux/amd64 among several. `size` is what is sent for
    that platform, in bytes: the engine counts layers unpacked, a registry packed.
    """

    reference: str
    digest: str
    config: str
    platforms: tuple[str, ...]
    size: int

    def is_same(self, other: Remote) -> bool:
        """Whether it is one image: by its digest, or by its id where the other one is an engine's.

        The engine's id is that of the configuration, or, in containerd's image store, the manifest's digest.
        """
        return bool({self.digest, self.config} & {other.digest, other.config} - {""})


def remote(reference: str) -> Remote | None:
    """What the registry has there now. None where it has none, and where images stay in the engine (`located`)."""
    if stays_in_engine(reference):
        return None
    with Client(asked_at(reference)) as client:
        manifest = client.manifest(client.name.version)
        return None if manifest is None else described(client, manifest, reference)


def located(engine: Engine, reference: str) -> Remote | None:
    """What the engine has under that name. The digest is its id where images stay in the engine, else ""."""
    image = engine.image(reference)
    if image is None:
        return None
    return Remote(
        reference=reference,
        digest=image.id if stays_in_engine(reference) else "",
        config=image.id,
        platforms=(image.platform,) if image.platform else (),
        size=image.size,
    )


def described(client: Client, manifest: Manifest, reference: str) -> Remote:
    """Reads an image's configuration, which alone says what platform it is for."""
    one = manifest
    platforms: tuple[str, ...] = ()
    if manifest.is_index:
        children = [each for each in manifest.content.get("manifests", ()) if _platform(each.get("platform"))]
        platforms = tuple(_platform(each["platform"]) for each in children)
        chosen = next((each for each in children if _platform(each["platform"]) == PLATFORM), None)
        if chosen is None:
            return Remote(reference=reference, digest=manifest.digest, config="", platforms=platforms, size=0)
        found = client.manifest(chosen["digest"])
        if found is None:
            raise RegistryError(
                f"{reference} lists {chosen['digest']} for {PLATFORM}, but {client.name.host} does not have it",
                "push the image again",
            )
        one = found
    content = one.content
    if not manifest.is_index:
        config = content["config"]
        platforms = (_platform(json.loads(client.small_blob(config["digest"], config["size"]))),)
    return Remote(
        reference=reference,
        digest=manifest.digest,
        config=content["config"]["digest"],
        platforms=tuple(filter(None, platforms)),
        size=_size(content.get("layers", ())) + int(content["config"].get("size", 0)),
    )


def _platform(said: Mapping[str, Any] | None) -> str:
    """Empty for what is no image, as the attestations that buildx adds: "unknown/unknown"."""
    parts = [str((said or {}).get(key) or "") for key in ("os", "architecture", "variant")]
    return "" if "unknown" in parts else "/".join(filter(None, parts))


def _size(layers: Iterable[Mapping[str, Any]]) -> int:
    return sum(int(layer.get("size", 0)) for layer in layers)
