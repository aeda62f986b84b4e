"""Whether an image may go where its name says, before a byte is sent: region, repository, rights, platform."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cpr_kit.deploy.project import regions
from cpr_kit.deploy.registry.client import Client
from cpr_kit.deploy.registry.names import Name, asked_at, stays_in_engine
from cpr_kit.deploy.registry.remote import PLATFORM, Remote
from cpr_kit.errors import ConfigError, RegistryError, UsageError

if TYPE_CHECKING:
    import requests

_ARTIFACT_REGISTRY = re.compile(r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev")
_PARTS = 3
_FORBIDDEN, _NOT_FOUND = 403, 404


def check(reference: str, region: str | None) -> None:
    """Raises ConfigError for a name that does not fit the region, RegistryError where the registry would refuse.

    With a region the image is for Vertex AI: its name must be in Artifact Registry (ModelContainerSpec.image_uri),
    in the region that it is deployed to. Without one any registry will do.
    """
    name = Name.parse(reference)
    if name.digest:
        raise ConfigError(f"{reference} names a digest, which comes of a push; give a tag")
    if region is not None:
        regions.check_image(str(name), region)
    if stays_in_engine(reference):
        return
    asked = asked_at(reference)
    with Client(asked, write=True) as client:
        refused = client.may_write()
        if refused is not None:
            raise _refusal(name, client, refused)


def platform(image: Remote) -> None:
    """Raises UsageError for an image that Vertex AI cannot run ("Custom container requirements")."""
    if not any(each == PLATFORM or each.startswith(f"{PLATFORM}/") for each in image.platforms):
        found = ", ".join(image.platforms) or "a platform that nobody named"
        raise UsageError(
            f"{image.reference} is for {found}, and Vertex AI runs {PLATFORM}; build it for that: "
            f"cpr build DIR --platform {PLATFORM}"
        )


def _refusal(name: Name, client: Client, response: requests.Response) -> RegistryError:
    """Why nothing may be written, with the command that changes it where Google's names say enough for one."""
    status = response.status_code
    said = client.refusal(response, f"take images for {name.path}")
    match = _ARTIFACT_REGISTRY.fullmatch(name.host)
    parts = name.repository.split("/")
    if match is None or len(parts) < _PARTS:
        return said
    cause = str(said).partition(" | ")[0]
    where = f"{parts[1]} --location={match['location']} --project={parts[0]}"
    create = f"gcloud artifacts repositories create {where} --repository-format=docker"
    if status == _NOT_FOUND:
        return RegistryError(cause, f"make the repository first: {create}")
    if status == _FORBIDDEN and "has not been used" in cause:
        return RegistryError(cause, f"gcloud services enable artifactregistry.googleapis.com --project={parts[0]}")
    if status == _FORBIDDEN:
        grant = f"gcloud artifacts repositories add-iam-policy-binding {where} --role=roles/artifactregistry.writer"
        return RegistryError(
            cause,
            f"you need roles/artifactregistry.writer on it: {grant} --member=user:YOU; Artifact Registry says the same "
            f"of a repository that does not exist: {create}",
        )
    return said
