"""What exists at Vertex AI, as far as a deployment has to know it: plain values, read from the API's messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cpr_kit.contract import EndpointKind
from cpr_kit.deploy.target import Scale


@dataclass(frozen=True, kw_only=True)
class Version:
    """A model version in the registry."""

    model: str
    """The model's id."""
    number: str
    labels: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    image_uri: str = ""
    artifact_uri: str = ""
    description: str = ""
    """The version's own, which holds the kit's mark: labels are shown merged with the model's (UpdateModelRequest)."""
    created: datetime | None = None

    def __str__(self) -> str:
        return f"{self.model}@{self.number}"


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """A deployed model of an endpoint. `traffic` is its share in percent."""

    id: str
    display_name: str
    model: str
    number: str
    scale: Scale
    traffic: int = 0
    available_replicas: int | None = None
    service_account: str = ""
    access_logging: bool = False
    container_logging: bool = True
    created: datetime | None = None

    @property
    def version(self) -> str:
        return f"{self.model}@{self.number}"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint with what is deployed to it. `dns` is a dedicated endpoint's own host."""

    id: str
    name: str
    """The resource's: projects/NUMBER/locations/REGION/endpoints/ID."""
    display_name: str
    kind: EndpointKind
    etag: str = ""
    dns: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    deployed: tuple[Deployed, ...] = ()
    created: datetime | None = None
    description: str = ""
    """Of our own endpoints it says which labels are from cpr.toml: `facts.label_mark`."""
    network: str = ""
    project_allowlist: tuple[str, ...] = ()
    inference_timeout_s: int | None = None
    logging: tuple[float, str] | None = None
    """Sampling rate and table of request-response logging, where it is on."""
    address: str = ""
    """A psa endpoint's predict URI on the peered network, once something is deployed."""

    @property
    def traffic(self) -> dict[str, int]:
        return {each.id: each.traffic for each in self.deployed}
