"""[deploy] of cpr.toml: where and how a project is deployed. What Vertex AI allows, `deploy/project/rules.py` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cpr_kit import config_values
from cpr_kit.config_values import least
from cpr_kit.contract import EndpointKind, Probe
from cpr_kit.errors import ConfigError

PREFIX = "CPR_DEPLOY_"
PROJECT = "GOOGLE_CLOUD_PROJECT"
"""Google's own variable for the project; it counts where neither cpr.toml nor CPR_DEPLOY_PROJECT names one."""
_MAX_CANARY = 99
_POOL = "resource pools take prebuilt TensorFlow and PyTorch containers alone; a custom container has its own machines"
_BETA = "Vertex AI has it in its v1beta1 API alone, and this kit deploys through v1"
_NOT_OFFERED = {
    "deployment_resource_pool": _POOL,
    "resource_pool": _POOL,
    "shared_resources": _POOL,
    "automatic_resources": "a custom container is deployed to dedicated machines: machine_type, min_replicas",
    "scale_to_zero": _BETA,
    "idle_scaledown_period": _BETA,
    "flex_start": _BETA,
    "rollout_options": _BETA,
}
"""What people know from Vertex AI, and a custom container or the v1 API does not have (DeployedModel)."""


@dataclass(frozen=True, kw_only=True)
class RequestLogging:
    """Requests and responses into a BigQuery table (API message PredictRequestResponseLoggingConfig)."""

    sampling_rate: float
    table: str


@dataclass(frozen=True, kw_only=True)
class CanaryRules:
    """When a canary is promoted. Latencies are the client's, in one run, new version against old."""

    requests: int = 200
    """Requests that the new version must have answered before it is judged."""
    max_error_rate: float = 0.0
    max_latency_ratio: float = 1.5
    """Of the medians, and of the 95th percentiles."""
    latency_slack_ms: float = 20.0
    """A difference below this is never held against the new version."""
    timeout_s: float = 600.0


@dataclass(frozen=True, kw_only=True)
class DeploySection:
    """None leaves it to Vertex AI, or to what the key's documentation says (docs/deploy_config.md).

    Counts that begin at 0 are read as they are: why Vertex AI does not take 0 replicas, the rules say.
    """

    project: str | None = None
    regions: tuple[str, ...] = ()
    endpoint: str | None = None
    model: str | None = None
    kind: EndpointKind | None = None
    network: str | None = None
    project_allowlist: tuple[str, ...] = ()
    machine_type: str = "n1-standard-2"
    accelerator_type: str | None = None
    accelerator_count: int | None = field(default=None, metadata=least(0))
    tpu_topology: str | None = None
    min_replicas: int = field(default=1, metadata=least(0))
    max_replicas: int | None = None
    required_replicas: int | None = None
    autoscaling: Mapping[str, int] = field(default_factory=dict)
    spot: bool = False
    reservation: tuple[str, ...] = ()
    """"any", "none", or full names of reservations; one of them need not be written as a list."""
    service_account: str | None = None
    staging: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    access_logging: bool = False
    container_logging: bool = True
    request_logging: RequestLogging | None = None
    inference_timeout: int | None = None
    deployment_timeout: int | None = None
    startup_probe: Probe | None = None
    health_probe: Probe | None = None
    liveness_probe: Probe | None = None
    explanation: str | None = None
    """A file with the JSON of an ExplanationSpec, relative to cpr.toml."""
    env: Mapping[str, str] = field(default_factory=dict)
    keep_previous: bool = False
    canary: int = field(default=0, metadata=least(0))
    canary_rules: CanaryRules = field(default_factory=CanaryRules)

    def __post_init__(self) -> None:
        if self.canary > _MAX_CANARY:
            raise ConfigError(
                f"[deploy] canary (CPR_DEPLOY_CANARY, --canary) is {self.canary}; it is the share of the traffic, in "
                f"percent, that a new version gets at first: 1 to {_MAX_CANARY}, or 0 for all at once"
            )

    @classmethod
    def read(cls, table: Any, where: str) -> DeploySection:
        """The section as cpr.toml has it. Raises ConfigError."""
        for key in table if isinstance(table, dict) else ():
            if key == "region":
                raise ConfigError(f'{where}: key "region" is unknown; write a list: regions = ["{table[key]}"]')
            if key in _NOT_OFFERED:
                raise ConfigError(f'{where}: key "{key}" is not offered: {_NOT_OFFERED[key]}')
        if isinstance(table, dict) and isinstance(table.get("reservation"), str):
            table = {**table, "reservation": [table["reservation"]]}
        section: DeploySection = config_values.section(cls, table, where)
        return section

    def overridden(self, environ: Mapping[str, str]) -> DeploySection:
        """With what CPR_DEPLOY_* says differently, and Google's variable for a missing project."""
        singular = PREFIX + "REGION"
        if singular in environ:
            raise ConfigError(f"{singular} is unknown; it is a list with commas: {singular}S={environ[singular]}")
        section: DeploySection = config_values.overridden(self, PREFIX, environ)
        return section if section.project else replace(section, project=environ.get(PROJECT) or None)
