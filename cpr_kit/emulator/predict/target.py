"""What the data path needs to know of an endpoint and of what is deployed there; which of it a request goes to."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from cpr_kit.contract import EndpointKind
from cpr_kit.emulator.errors import failed_precondition, not_found


class Replica(Protocol):
    """One running container; `cpr_kit.emulator.serving` has the real one."""

    @property
    def base_url(self) -> str: ...
    @property
    def predict_route(self) -> str: ...
    def busy(self) -> AbstractContextManager[object]:
        """Counts one request in flight."""

    def failed(self) -> None:
        """No connection could be made: no traffic until its probes see it healthy again."""

    def broke(self) -> None:
        """The connection broke off: others are asked first until its probes see it healthy again."""


class Container(Protocol):
    """The replicas of a deployed model."""

    def choose(self) -> Replica | None:
        """The next to ask, None where none is ready. Called on the loop: no waiting."""


@dataclass(frozen=True, kw_only=True)
class DeployedModel:
    """`model` has no @version. `container` is None while the replicas are being started again."""

    id: str
    model: str
    version: str
    display_name: str
    container: Container | None
    min_replicas: int = 1
    invoke: bool = False
    """The model's containerSpec has invokeRoutePrefix "/*"."""
    grpc: bool = False
    """The model's containerSpec has grpcPorts."""
    explanation: bool = False
    """The model, or the deployment, has an explanationSpec."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """`name` has the project's number; `timeout_s` is clientConnectionConfig.inferenceTimeout, where a kind has it."""

    name: str
    kind: EndpointKind
    timeout_s: float
    traffic: Mapping[str, int]
    models: Mapping[str, DeployedModel]

    @property
    def id(self) -> str:
        return self.name.rpartition("/")[2]


def pick(endpoint: Endpoint, rng: random.Random, deployed_model_id: str = "") -> DeployedModel:
    """The deployed model that this request goes to: the named one, or one by weight (API message Endpoint).

    By chance for each request, with no stickiness: UNCONFIRMED, as are the words of the refusals.
    """
    if deployed_model_id:
        return _named(endpoint, deployed_model_id)
    if not endpoint.models:
        raise failed_precondition(f"Endpoint {endpoint.name} doesn't have a deployed model.")
    shares = [(share, key) for key, share in endpoint.traffic.items() if share > 0 and key in endpoint.models]
    if len(shares) == 1:
        return endpoint.models[shares[0][1]]
    left = rng.random() * sum(share for share, _ in shares)
    for share, key in shares:
        left -= share
        if left < 0:
            return endpoint.models[key]
    raise failed_precondition(
        f"Endpoint {endpoint.name} doesn't have a deployed model that gets traffic: its trafficSplit is empty."
    )


def _named(endpoint: Endpoint, key: str) -> DeployedModel:
    if (model := endpoint.models.get(key)) is None:
        raise not_found(f"DeployedModel {key} is not found in Endpoint {endpoint.name}.")
    return model
