"""What is to be deployed, and where: all that a plan for one region is made of. Plain values, no calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cpr_kit.contract import ContainerSpec, EndpointKind
from cpr_kit.deploy_config import CanaryRules, RequestLogging

OURS = "cpr-kit"
"""Label of all that this kit made; its value is the endpoint's name."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The machines behind a deployed model (API messages DedicatedResources, MachineSpec, AutoscalingMetricSpec)."""

    machine_type: str = "n1-standard-2"
    accelerator_type: str | None = None
    accelerator_count: int = 0
    tpu_topology: str | None = None
    min_replicas: int = 1
    max_replicas: int = 1
    required_replicas: int | None = None
    autoscaling: Mapping[str, int] = field(default_factory=dict)
    """Target by metric, the metric by its full name: "aiplatform.googleapis.com/prediction/online/cpu/utilization"."""
    spot: bool = False
    reservation: tuple[str, ...] = ()
    """("any",), ("none",), or full names; empty leaves it to Vertex AI (ReservationAffinity)."""


@dataclass(frozen=True, kw_only=True)
class CheckRequest:
    """One [[check]] of cpr.toml, read: it is sent to what was deployed. `expected` is None where any 200 will do."""

    name: str
    body: bytes
    content_type: str = "application/json"
    expected: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """One region's share of a [deploy] section."""

    project: str
    region: str
    endpoint: str
    """The endpoint's display name, and its id where Vertex AI lets one choose it."""
    model: str
    """The model's id in the registry."""
    image: str
    """In this region's repository, with its tag."""
    spec: ContainerSpec
    """`spec.image_uri` is `image`; what is uploaded names the digest."""
    kind: EndpointKind = "public"
    network: str | None = None
    project_allowlist: tuple[str, ...] = ()
    artifacts: str | None = None
    """A folder of this machine (absolute) or gs://..."""
    staging: str | None = None
    """gs://BUCKET[/PREFIX] in this region, for artifacts that lie on this machine or in another region."""
    explanation: str | None = None
    """The model's ExplanationSpec as JSON, in the one form that `project/explanation.py` writes."""
    scale: Scale = field(default_factory=Scale)
    service_account: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    access_logging: bool = False
    container_logging: bool = True
    request_logging: RequestLogging | None = None
    inference_timeout_s: int | None = None
    """Of dedicated endpoints and private ones with PSC alone; None is Vertex AI's own, 600 s."""
    keep_previous: bool = False
    """The previous version stays deployed without traffic, so that a rollback takes seconds; its machines cost on."""
    checks: tuple[CheckRequest, ...] = ()
    canary: CanaryRules = field(default_factory=CanaryRules)
