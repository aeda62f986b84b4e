"""Reading what exists: in the registry, on this machine's engine, and at Vertex AI."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cpr_kit.deploy.artifacts import staged as artifacts
from cpr_kit.deploy.facts import Facts, wanted
from cpr_kit.deploy.registry.client import Client
from cpr_kit.deploy.registry.names import asked_at, stays_in_engine
from cpr_kit.deploy.registry.push import push
from cpr_kit.deploy.registry.remote import PLATFORM, located, remote
from cpr_kit.deploy.resources import Endpoint
from cpr_kit.deploy.target import Target
from cpr_kit.deploy.vertex.calls import Report, silent
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.engine.protocol import Engine
from cpr_kit.errors import LackingError
from cpr_kit.prebuilt import catalogue
from cpr_kit.source_state import Built


def observe(target: Target, engine: Engine | None, vertex: Vertex) -> Facts:
    """Raises LackingError where the image is neither in its registry nor here, and for artifacts that are not there.

    Raises DeployError where artifacts have to be staged and cannot be.
    """
    digest = image_digest(target, engine)
    endpoint = find(target, vertex)
    facts = Facts(
        endpoint=endpoint,
        versions=tuple(vertex.versions(target.model)),
        reference=by_digest(target.image, digest) if digest else target.image,
        digest=digest,
        artifacts=artifacts.digest(target.artifacts),
        last_took_s=vertex.last_took_s(endpoint) if endpoint else None,
    )
    if facts.artifacts and target.staging and wanted(target, facts) is None:
        artifacts.reach(target.staging, target.region)
    return facts


def find(target: Target, vertex: Vertex) -> Endpoint | None:
    """The endpoint, also one that a killed run has begun to make: it is waited for."""
    found = vertex.endpoint(target.endpoint)
    if found is None and target.kind != "psc":
        vertex.settle(f"{vertex.parent}/endpoints/{target.endpoint}")
        found = vertex.endpoint(target.endpoint)
    return found


def image_digest(target: Target, engine: Engine | None) -> str | None:
    """The digest under which the registry has this machine's image; None while it has to be pushed.

    Without an image of that name here, the one in the registry is meant. Vertex AI's prebuilt images are its own, and
    are neither looked for nor pushed.
    """
    if catalogue.is_prebuilt(target.image):
        return catalogue.identity(target.image)
    here = located(engine, target.image) if engine else None
    if here and here.digest:  # under `cpr emulate` without a registry: it stays where it is
        return here.digest
    there = remote(target.image)
    if there and (here is None or there.is_same(here)):
        return there.digest
    if here is None:
        raise LackingError(
            f"there is no image {target.image}, neither in its registry nor on this machine; build it: cpr build"
        )
    return None


def configured(image: str) -> Built | None:
    """What an image in its registry says of itself, that of linux/amd64 of several. Raises RegistryError."""
    if stays_in_engine(image):
        return None
    with Client(asked_at(image)) as client:
        manifest = client.manifest(client.name.version)
        if manifest is not None and manifest.is_index:
            children = manifest.content.get("manifests", ())
            chosen = next((each for each in children if _is_vertex(each.get("platform") or {})), None)
            manifest = client.manifest(chosen["digest"]) if chosen else None
        if manifest is None:
            return None
        described = manifest.content["config"]
        found = json.loads(client.small_blob(described["digest"], described["size"]))
    return Built(labels=(found.get("config") or {}).get("Labels") or {}, created=found.get("created") or "")


def _is_vertex(platform: Mapping[str, str]) -> bool:
    return f"{platform.get('os')}/{platform.get('architecture')}" == PLATFORM


def pushed(target: Target, engine: Engine | None, report: Report = silent) -> str:
    """The digest, after a push where that is needed."""
    digest = image_digest(target, engine)
    if digest:
        return digest
    assert engine is not None
    return push(engine, target.image, source=None, report=report).digest


def by_digest(image: str, digest: str) -> str:
    """Name an image by its digest; a prebuilt one has its tag alone.

    >>> by_digest("us-central1-docker.pkg.dev/p/r/iris:1", "sha256:00")
    'us-central1-docker.pkg.dev/p/r/iris@sha256:00'
    """
    if catalogue.is_prebuilt(image):
        return image
    path, slash, name = image.partition("@")[0].rpartition("/")
    return f"{path}{slash}{name.partition(':')[0]}@{digest}"
