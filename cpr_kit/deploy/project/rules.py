"""What Vertex AI allows of a target, asked before any call: errors where it would refuse, warnings where it would not.

The rules are those of "Choose an endpoint type", of the API's messages Endpoint, DeployedModel, DedicatedResources,
ModelContainerSpec and Probe (which becomes Kubernetes's), and of CreateEndpointRequest and UploadModelRequest for ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from cpr_kit.contract import EndpointKind, Probe
from cpr_kit.deploy.project import explanation, machines, regions, reservations
from cpr_kit.deploy.target import Scale, Target
from cpr_kit.deploy_config import CanaryRules, RequestLogging
from cpr_kit.errors import ConfigError
from cpr_kit.prebuilt import catalogue

FIXED_TIMEOUT_S = 60
"""How long a request to a shared or a psa endpoint may take."""
DEFAULT_TIMEOUT_S = 600
LONGEST_TIMEOUT_S = 3600
WITH_TIMEOUT: tuple[EndpointKind, ...] = ("dedicated", "psc")
OWN_LABELS = "cpr-"
"""Labels that begin so are the kit's."""

_PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z0-9][a-z0-9-]*")
_ENDPOINT = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
_MODEL = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
_NETWORK = re.compile(r"projects/[0-9]+/global/networks/[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[^\s{}]*)?")
_TABLE = re.compile(r"bq://([a-z0-9.-]+:)?[a-z0-9-]+(\.\w+(\.[\w-]+)?)?")
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9.-]*@[a-z0-9][a-z0-9.-]*\.gserviceaccount\.com")
_LABEL_KEY = re.compile(r"[^\W\d_][\w-]{0,62}")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}")
_MAX_LABELS = 60
_MAX_URI = 2000
_MAX_PORT = 65535
_QUOTA = 100
_MAX_CANARY = 99


def check(target: Target) -> tuple[str, ...]:
    """Raises ConfigError for what Vertex AI would refuse; what it would take, but one may regret, is returned."""
    _check_names(target)
    regions.check(target.region)
    if not catalogue.is_prebuilt(target.image):
        regions.check_image(target.image, target.region)
    _check_kind(target)
    _check_artifacts(target)
    _check_scale(target.scale)
    reservations.check(target.scale.reservation, target.region)
    _check_container(target)
    _check_labels(target)
    _check_canary_rules(target.canary)
    if target.service_account is not None and not _ACCOUNT.fullmatch(target.service_account):
        raise ConfigError(
            f'[deploy] service_account is "{target.service_account}"; it is the account\'s email address, '
            f"such as NAME@{target.project}.iam.gserviceaccount.com"
        )
    return tuple(chain(_warnings_of_scale(target.scale), _warnings(target)))


def check_canary(target: Target, percent: int) -> None:
    """Whether a new version may get this share of the traffic at first. Raises ConfigError."""
    if percent not in range(1, _MAX_CANARY + 1):
        raise ConfigError(f"a canary's share is {percent} %; it is a whole number from 1 to {_MAX_CANARY}")
    if target.kind == "psa":
        raise ConfigError("a psa endpoint takes one model, so it has no canary; leave canary out")
    if target.kind == "psc":
        raise ConfigError(
            "a canary is judged by requests from this machine, and a psc endpoint answers in its own network alone; "
            "leave canary out"
        )
    if not target.checks:
        raise ConfigError(
            "a canary is judged by the project's own requests, and cpr.toml has none; write one: "
            '[[check]] with request = "requests/FILE"'
        )


def timeout_s(target: Target) -> int:
    """How long a request to this endpoint may take ("Choose an endpoint type")."""
    return (target.inference_timeout_s or DEFAULT_TIMEOUT_S) if target.kind in WITH_TIMEOUT else FIXED_TIMEOUT_S


def _check_names(target: Target) -> None:
    if not _PROJECT.fullmatch(target.project):
        raise ConfigError(
            f'[deploy] project is "{target.project}"; it is a project\'s id, such as "my-project", or number'
        )
    if not _ENDPOINT.fullmatch(target.endpoint):
        raise ConfigError(
            f'[deploy] endpoint is "{target.endpoint}"; it has lower-case letters, digits and hyphens, 63 at most, '
            "begins with a letter and ends with a letter or digit; or it is a number of 9 digits at most"
        )
    if not _MODEL.fullmatch(target.model):
        raise ConfigError(
            f'[deploy] model is "{target.model}" (it is the endpoint\'s name where it is left out); it has lower-case '
            "letters, digits, hyphens and underscores, 63 at most, and begins with no digit and no hyphen"
        )


def _check_kind(target: Target) -> None:
    kind = target.kind
    if (kind == "psa") != (target.network is not None):
        raise ConfigError(
            "[deploy] kind psa needs network, the one that is peered: projects/NUMBER/global/networks/NAME"
            if kind == "psa"
            else f'[deploy] network is "{target.network}"; it is for kind psa, and this is {kind}'
        )
    if target.network is not None and not _NETWORK.fullmatch(target.network):
        raise ConfigError(
            f'[deploy] network is "{target.network}"; it is written projects/NUMBER/global/networks/NAME, with the '
            "project's number: gcloud projects describe PROJECT --format='value(projectNumber)'"
        )
    if (kind == "psc") != bool(target.project_allowlist):
        raise ConfigError(
            "[deploy] kind psc needs project_allowlist, the projects that may connect, and it cannot be changed later"
            if kind == "psc"
            else f"[deploy] project_allowlist is for kind psc, and this is {kind}"
        )
    for project in target.project_allowlist:
        if not _PROJECT.fullmatch(project):
            raise ConfigError(f'[deploy] project_allowlist has "{project}"; each is a project\'s id or number')
    if kind == "psa":
        _check_psa(target)
    _check_timeout(target)
    if target.request_logging is not None:
        _check_request_logging(target.request_logging)


def _check_psa(target: Target) -> None:
    """A psa endpoint has one model, and no logging of its own ("Choose an endpoint type")."""
    if target.keep_previous:
        raise ConfigError("[deploy] keep_previous keeps a second model deployed, and a psa endpoint takes one alone")
    if target.request_logging is not None:
        raise ConfigError("[deploy] request_logging is not there for psa endpoints; leave it out, or use kind psc")
    if target.access_logging:
        raise ConfigError("[deploy] access_logging is not there for psa endpoints; leave it out, or use kind psc")


def _check_timeout(target: Target) -> None:
    seconds = target.inference_timeout_s
    if seconds is None:
        return
    if target.kind not in WITH_TIMEOUT:
        raise ConfigError(
            f"[deploy] inference_timeout is {seconds}; a {target.kind} endpoint always has {FIXED_TIMEOUT_S} s, "
            f"kinds {' and '.join(WITH_TIMEOUT)} have what is written"
        )
    if not 1 <= seconds <= LONGEST_TIMEOUT_S:
        raise ConfigError(f"[deploy] inference_timeout is {seconds}; it is 1 to {LONGEST_TIMEOUT_S} s")


def _check_request_logging(logging: RequestLogging) -> None:
    """PredictRequestResponseLoggingConfig and BigQueryDestination."""
    if not 0 < logging.sampling_rate <= 1:
        raise ConfigError(
            f"[deploy] request_logging sampling_rate is {logging.sampling_rate:g}; it is a share above 0, 1 at most"
        )
    if not _TABLE.fullmatch(logging.table) or len(logging.table) > _MAX_URI:
        raise ConfigError(
            f'[deploy] request_logging table is "{logging.table}"; it is written bq://PROJECT, bq://PROJECT.DATASET '
            "or bq://PROJECT.DATASET.TABLE; a table that is named must not exist yet"
        )


def _check_artifacts(target: Target) -> None:
    if target.staging is not None and not _BUCKET.fullmatch(target.staging):
        raise ConfigError(f'[deploy] staging is "{target.staging}"; it is written gs://BUCKET or gs://BUCKET/PREFIX')
    artifacts = target.artifacts
    if artifacts is None:
        return
    if artifacts.startswith("gs://"):
        if not _BUCKET.fullmatch(artifacts):
            raise ConfigError(f'[model] artifacts is "{artifacts}"; it is written gs://BUCKET/FOLDER')
    elif target.staging is None:
        raise ConfigError(
            f"[model] artifacts is {artifacts}, a folder of this machine, and Vertex AI reads gs:// alone; say where "
            f'they are to be copied: [deploy] staging = "gs://BUCKET/PREFIX", a bucket in {target.region}'
        )


def _check_scale(scale: Scale) -> None:
    machines.check(scale.machine_type, scale.accelerator_type, scale.accelerator_count)
    machines.check_topology(scale.machine_type, scale.tpu_topology)
    if scale.min_replicas < 1:
        raise ConfigError(
            f"[deploy] min_replicas is {scale.min_replicas}; it is 1 at least: scaling to zero is in Vertex AI's "
            "v1beta1 API alone, and this kit deploys through v1"
        )
    if scale.max_replicas < scale.min_replicas:
        raise ConfigError(
            f"[deploy] max_replicas is {scale.max_replicas}, less than min_replicas, which is {scale.min_replicas}"
        )
    if scale.required_replicas is not None and not 1 <= scale.required_replicas <= scale.min_replicas:
        raise ConfigError(
            f"[deploy] required_replicas is {scale.required_replicas}; it is how many replicas must answer before a "
            f"deployment counts as done, 1 to min_replicas, which is {scale.min_replicas}"
        )
    for name, value in scale.autoscaling.items():
        machines.check_metric(name, value, has_accelerator=scale.accelerator_count > 0)


def _check_container(target: Target) -> None:
    spec = target.spec
    if spec.shared_memory_size_mb is not None and spec.shared_memory_size_mb < 1:
        raise ConfigError(f"[image] shared_memory_mb is {spec.shared_memory_size_mb}; it is 1 at least")
    for name in ("startup_probe", "health_probe", "liveness_probe"):
        probe: Probe | None = getattr(spec, name)
        if probe is None:
            continue
        _check_probe(f"[deploy] {name}", probe)
        if name != "health_probe" and probe.success_threshold != 1:
            raise ConfigError(
                f"[deploy] {name} success_threshold is {probe.success_threshold}; Kubernetes, whose probe it becomes, "
                "takes 1 alone; of a health_probe it may be more"
            )


def _check_probe(name: str, probe: Probe) -> None:
    """The message Probe, whose seconds are whole numbers."""
    for key in ("period_s", "timeout_s", "initial_delay_s"):
        seconds = getattr(probe, key)
        if seconds != int(seconds) or (key != "initial_delay_s" and seconds < 1):
            raise ConfigError(f"{name} {key} is {seconds:g}; Vertex AI takes whole seconds, 1 at least")
    if probe.exec and probe.port is not None:
        raise ConfigError(f"{name} has exec, a command; port is for http_path and tcp")
    if probe.http_headers and probe.http_path is None:
        raise ConfigError(f"{name} has http_headers, and no http_path that they are sent to")
    if probe.http_path is not None and not probe.http_path.startswith("/"):
        raise ConfigError(f'{name} http_path is "{probe.http_path}"; a path starts with "/"')
    if probe.port is not None and not 1 <= probe.port <= _MAX_PORT:
        raise ConfigError(f"{name} port is {probe.port}; it is 1 to {_MAX_PORT}")


def _check_labels(target: Target) -> None:
    """Endpoint.labels and Model.labels, and the length of "Requirements for labels": 63."""
    if len(target.labels) > _MAX_LABELS:
        raise ConfigError(
            f"[deploy] labels has {len(target.labels)}; Vertex AI takes 64, and some of those are the kit's own: "
            f"{_MAX_LABELS} at most"
        )
    for key, value in target.labels.items():
        if key.startswith(OWN_LABELS):
            raise ConfigError(f'[deploy] labels has "{key}"; labels that begin with {OWN_LABELS} are the kit\'s own')
        if not _LABEL_KEY.fullmatch(key) or key != key.lower():
            raise ConfigError(
                f'[deploy] labels has "{key}"; a key begins with a lower-case letter, and has lower-case letters, '
                "digits, hyphens and underscores, 63 at most"
            )
        if not _LABEL_VALUE.fullmatch(value) or value != value.lower():
            raise ConfigError(
                f'[deploy] labels {key} is "{value}"; a value has lower-case letters, digits, hyphens and underscores, '
                "63 at most"
            )


def _check_canary_rules(canary: CanaryRules) -> None:
    where = "[deploy] canary_rules"
    if canary.max_error_rate > 1:
        raise ConfigError(f"{where} max_error_rate is {canary.max_error_rate:g}; it is a share, 0 to 1")
    if canary.max_latency_ratio <= 0:
        raise ConfigError(f"{where} max_latency_ratio is {canary.max_latency_ratio:g}; it is more than 0, such as 1.5")
    if canary.timeout_s <= 0:
        raise ConfigError(f"{where} timeout_s is {canary.timeout_s:g}; it is more than 0 seconds")


def _warnings_of_scale(scale: Scale) -> Iterator[str]:
    yield from machines.warnings(scale.machine_type)
    if scale.min_replicas == 1:
        yield (
            "min_replicas is 1: while that replica restarts, nothing answers"
            + ("; a spot machine may be taken away at any time" if scale.spot else "")
        )
    if scale.max_replicas > _QUOTA:
        yield f"max_replicas is {scale.max_replicas}; the quota is {_QUOTA} where it was not raised"
    if not scale.autoscaling:
        return
    if scale.max_replicas == scale.min_replicas:
        yield f"autoscaling has no effect: min_replicas and max_replicas are both {scale.min_replicas}"
    measured = {machines.metric(name) for name in scale.autoscaling}
    if scale.accelerator_count and machines.CPU in measured and machines.DUTY_CYCLE not in measured:
        yield "autoscaling names cpu alone; an accelerator's duty cycle counts too, with a target of 60: gpu = 60"
    if measured & {machines.VLLM_CACHE, machines.VLLM_WAITING}:
        yield "autoscaling has a metric that vLLM containers alone report"


def _warnings(target: Target) -> Iterator[str]:
    name, _, tag = target.image.rpartition("/")[2].partition(":")
    if prebuilt := catalogue.parse(target.image):
        yield from catalogue.warnings(prebuilt)
    elif tag in {"", "latest"}:
        yield f'the image\'s tag is "latest", which does not tell one build from another; name one: {name}:1.0'
    if not target.checks:
        yield "cpr.toml has no [[check]]: what is deployed gets traffic without having answered a request"
    if target.kind == "psa":
        yield "a psa endpoint takes one model: a new version needs cpr down first, and nothing answers meanwhile"
    if target.explanation is not None:
        yield from explanation.warnings(target.explanation)
        if target.kind != "public":
            yield f"explanation is there, and a {target.kind} endpoint does not explain; kind public does"
    if not target.container_logging:
        yield "container_logging is off: where a container fails, there is no log that says why"
