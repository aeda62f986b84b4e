"""Vertex AI's custom-container contract, both directions, in plain values.

Outward: `ContainerSpec` + `Deployment` -> the environment, command and arguments a container gets.
Inward: that environment -> `ServingEnv`, which is what the model server reads.

The rules are those of "Custom container requirements for inference" and of the API's
ModelContainerSpec and Probe messages. Standard library only: this module runs in the container too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cpr_kit.errors import SpecError, StartError

DEFAULT_PORT = 8080
LOG_FORMAT = "CPR_SERVE_LOG_FORMAT"
"""Where people read the log, on this machine, this says `text`; Cloud Logging reads JSON."""
KIT_PREDICT_ROUTE = "/predict"
KIT_HEALTH_ROUTE = "/health"

PROBE_ATTEMPTS = 4
"""A check fails for good after four misses: one, and three more tries (health and liveness alike)."""
PROBE_PERIOD_S = 10.0
HEALTH_TIMEOUT_S = 10.0

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
"""A file by what it holds: a pickle of such a digest is trusted (`trusted_digests` under [model])."""

EndpointKind = Literal["public", "dedicated", "psc", "psa"]
"""Shared public, dedicated public, Private Service Connect, private services access."""
MAX_BODY: Mapping[EndpointKind, int] = {
    "public": 1_500_000,
    "dedicated": 10_000_000,
    "psc": 10_000_000,
    "psa": 10_000_000,
}
"""The bytes of a request that each kind of endpoint lets through; of a response too."""

AIP_VARIABLES = (
    "AIP_HTTP_PORT",
    "AIP_HEALTH_ROUTE",
    "AIP_PREDICT_ROUTE",
    "AIP_STORAGE_URI",
    "AIP_MODE",
    "AIP_MODE_VERSION",
    "AIP_FRAMEWORK",
    "AIP_PROJECT_NUMBER",
    "AIP_ENDPOINT_ID",
    "AIP_DEPLOYED_MODEL_ID",
    "AIP_MACHINE_TYPE",
    "AIP_ACCELERATOR_TYPE",
    "AIP_MODEL_NAME",
    "AIP_VERSION_NAME",
)

_REFERENCE = re.compile(r"\$\$\(([^()]*)\)|\$\(([^()]*)\)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MAX_PORT = 65535
_MAX_DEPLOYMENT_TIMEOUT_S = 7200


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$(NAME)` as Vertex AI does: unknown names stay, `$$(NAME)` yields `$(NAME)`.

    >>> expand("--path=$(AIP_STORAGE_URI) $$(X) $(UNKNOWN)", {"AIP_STORAGE_URI": "gs://b/m"})
    '--path=gs://b/m $(X) $(UNKNOWN)'
    """

    def value(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        return f"$({escaped})" if escaped is not None else values.get(name, match.group(0))

    return _REFERENCE.sub(value, text)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How a container is asked whether it lives (API message Probe). One action; seconds throughout."""

    exec: tuple[str, ...] = ()
    http_path: str | None = None
    tcp: bool = False
    port: int | None = None
    http_headers: Mapping[str, str] = field(default_factory=dict)
    period_s: float = 10.0
    timeout_s: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1
    initial_delay_s: float = 0.0

    def __post_init__(self) -> None:
        actions = sum((bool(self.exec), self.http_path is not None, self.tcp))
        if actions != 1:
            raise SpecError(f"a probe has one action (exec, http_path or tcp), this one has {actions}")
        if self.period_s < 1:
            raise SpecError(f"a probe's period is at least 1 s, not {self.period_s:g} s")
        if self.timeout_s <= 0 or self.failure_threshold < 1 or self.success_threshold < 1:
            raise SpecError(f"a probe's time-out and thresholds are positive: {self}")


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """What Vertex AI needs to know to start an image (API message ModelContainerSpec).

    `command` replaces the image's ENTRYPOINT and `args` its CMD; both are exec-form lists without a
    shell. Only the first of `ports` gets traffic and health checks. Routes left out get Vertex AI's
    own long defaults. Environment entries may refer to AIP_* and to entries before them.
    """

    image_uri: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    grpc_ports: tuple[int, ...] = ()
    predict_route: str | None = None
    health_route: str | None = None
    shared_memory_size_mb: int | None = None
    deployment_timeout_s: int | None = None
    startup_probe: Probe | None = None
    health_probe: Probe | None = None
    liveness_probe: Probe | None = None
    """In place of a TCP connection to the port: a container that misses it is started again."""

    def __post_init__(self) -> None:
        if not self.image_uri:
            raise SpecError("a container specification needs an image")
        check_environment(self.env)
        for port in (*self.ports, *self.grpc_ports):
            if not 1 <= port <= _MAX_PORT:
                raise SpecError(f"port {port} is outside 1 to {_MAX_PORT}")
        for name in ("predict_route", "health_route"):
            route = getattr(self, name)
            if route is not None and not route.startswith("/"):
                raise SpecError(f'{name} is "{route}"; a route starts with "/"')
        if self.deployment_timeout_s is not None and self.deployment_timeout_s > _MAX_DEPLOYMENT_TIMEOUT_S:
            raise SpecError(f"deployment_timeout_s is {self.deployment_timeout_s}; Vertex AI allows 2 h at most")

    @property
    def port(self) -> int:
        return self.ports[0] if self.ports else DEFAULT_PORT

    @classmethod
    def kit(cls, image_uri: str, **fields: Any) -> ContainerSpec:
        """A specification for an image of this kit: routes and port are named, so nothing is left to defaults."""
        fields.setdefault("predict_route", KIT_PREDICT_ROUTE)
        fields.setdefault("health_route", KIT_HEALTH_ROUTE)
        fields.setdefault("ports", (DEFAULT_PORT,))
        return cls(image_uri=image_uri, **fields)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Where a container believes it is deployed. The defaults are those of a run on this machine."""

    storage_uri: str = ""
    project_number: str = "123456789012"
    endpoint_id: str = "1000000000000000001"
    deployed_model_id: str = "2000000000000000001"
    machine_type: str = "n1-standard-4"
    accelerator_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A specification resolved for one deployment: what the container really gets."""

    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    port: int
    predict_route: str
    health_route: str


def launch(spec: ContainerSpec, deployment: Deployment, *, port: int | None = None) -> Launch:
    """Resolve `spec` as Vertex AI would. `port` replaces the port where an engine cannot map ports."""
    aip = _aip_environment(spec, deployment, port or spec.port)
    env = dict(aip)
    for name, value in spec.env.items():
        env[name] = expand(value, env)
    return Launch(
        command=tuple(expand(word, env) for word in spec.command),
        args=tuple(expand(word, env) for word in spec.args),
        env=env,
        port=port or spec.port,
        predict_route=aip["AIP_PREDICT_ROUTE"],
        health_route=aip["AIP_HEALTH_ROUTE"],
    )


def _aip_environment(spec: ContainerSpec, deployment: Deployment, port: int) -> dict[str, str]:
    default_route = f"/v1/endpoints/{deployment.endpoint_id}/deployedModels/{deployment.deployed_model_id}"
    env = {
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": spec.health_route or default_route,
        "AIP_PREDICT_ROUTE": spec.predict_route or f"{default_route}:predict",
        "AIP_STORAGE_URI": deployment.storage_uri,
        "AIP_MODE": "PREDICTION",
        "AIP_MODE_VERSION": "1.0.0",
        "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
        "AIP_PROJECT_NUMBER": deployment.project_number,
        "AIP_ENDPOINT_ID": deployment.endpoint_id,
        "AIP_DEPLOYED_MODEL_ID": deployment.deployed_model_id,
        "AIP_MACHINE_TYPE": deployment.machine_type,
        "AIP_MODEL_NAME": deployment.endpoint_id,
        "AIP_VERSION_NAME": deployment.deployed_model_id,
    }
    if deployment.accelerator_type:
        env["AIP_ACCELERATOR_TYPE"] = deployment.accelerator_type
    return env


def check_environment(env: Mapping[str, str]) -> None:
    """Refuse names Vertex AI refuses: AIP_* belongs to the platform, the rest must be C identifiers."""
    for name in env:
        if name.startswith("AIP_"):
            raise SpecError(f"{name} is set by Vertex AI; a container specification may not set AIP_* variables")
        if not _VARIABLE.match(name):
            raise SpecError(f'"{name}" is not a name for an environment variable')


def parse_environment(assignments: Iterable[str]) -> dict[str, str]:
    """`["A=1", "B=x=y"]` -> `{"A": "1", "B": "x=y"}`."""
    env = {}
    for text in assignments:
        name, separator, value = text.partition("=")
        if not separator:
            raise SpecError(f'"{text}" is no NAME=VALUE')
        env[name] = value
    check_environment(env)
    return env


@dataclass(frozen=True)
class Reference:
    """A class by name: `module:Class`. An image's <KIND>_MODULE and <KIND>_CLASS hold its halves, as upstream's do."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True, kw_only=True)
class ServingEnv:
    """The platform's variables as the model server reads them. Defaults are those of `cpr serve`."""

    port: int = DEFAULT_PORT
    health_route: str = KIT_HEALTH_ROUTE
    predict_route: str = KIT_PREDICT_ROUTE
    storage_uri: str = ""
    project_number: str = ""
    endpoint_id: str = ""
    deployed_model_id: str = ""
    machine_type: str = ""
    accelerator_type: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> ServingEnv:
        """Read AIP_*. Raises StartError for a port that is no port and a route that is no route."""
        health_route = environ.get("AIP_HEALTH_ROUTE") or KIT_HEALTH_ROUTE
        predict_route = environ.get("AIP_PREDICT_ROUTE") or KIT_PREDICT_ROUTE
        _check_route("AIP_HEALTH_ROUTE", health_route)
        _check_route("AIP_PREDICT_ROUTE", predict_route)
        if health_route == predict_route:
            raise StartError(
                f"AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE are both {health_route}",
                "give the model two different routes when it is uploaded",
            )
        return cls(
            port=_port(environ),
            health_route=health_route,
            predict_route=predict_route,
            storage_uri=environ.get("AIP_STORAGE_URI", ""),
            project_number=environ.get("AIP_PROJECT_NUMBER", ""),
            endpoint_id=environ.get("AIP_ENDPOINT_ID", ""),
            deployed_model_id=environ.get("AIP_DEPLOYED_MODEL_ID", ""),
            machine_type=environ.get("AIP_MACHINE_TYPE", ""),
            accelerator_type=environ.get("AIP_ACCELERATOR_TYPE", ""),
        )


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("AIP_HTTP_PORT") or str(DEFAULT_PORT)
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= _MAX_PORT:
        raise StartError(f'AIP_HTTP_PORT is "{text}"', f"set it to a number from 1 to {_MAX_PORT}, or unset it")
    return int(text)


def _check_route(name: str, route: str) -> None:
    if not route.startswith("/"):
        raise StartError(f'{name} is "{route}"', 'a route starts with "/"')
