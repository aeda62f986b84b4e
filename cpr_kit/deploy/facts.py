"""What exists, and how what is wanted is found in it again: by names, labels and aliases, with no file beside them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy.resources import Deployed, Endpoint, Version
from cpr_kit.deploy.target import OURS, Scale, Target

IMAGE = "cpr-image"
ARTIFACTS = "cpr-artifacts"
LIVE, PREVIOUS = "live", "previous"
"""Aliases: the version that serves; the one that a rollback returns to."""
CANDIDATE = "candidate-"
"""What an alias begins with that a version has until it is live: one of its own, since an alias leaves who had it."""

_DIGITS = 9 * 10**9
_LABELS = re.compile(r"cpr up: labels (\S+(?:, \S+)*)")
_MARK = re.compile(r"cpr up: endpoint (\S+), key ([0-9a-f]{32})")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What exists. `digest` is the image's in its registry; None while it has to be pushed."""

    endpoint: Endpoint | None
    versions: tuple[Version, ...]
    reference: str
    """What the specification names: the image by its digest, or by its tag where a digest cannot be pulled."""
    digest: str | None
    artifacts: str | None
    """The artifacts' own digest."""
    last_took_s: float | None = None

    @property
    def by_number(self) -> dict[str, Version]:
        return {version.number: version for version in self.versions}


def spec_of(target: Target, facts: Facts) -> ContainerSpec:
    """The specification with the image's digest in it."""
    return replace(target.spec, image_uri=facts.reference)


def key(target: Target, facts: Facts) -> str | None:
    """What makes a version: image, artifacts and how it is started. None while the image has no digest."""
    if facts.digest is None:
        return None
    spec = {**asdict(target.spec), "image_uri": facts.digest, "env": list(target.spec.env.items())}
    if target.spec.liveness_probe is None:
        del spec["liveness_probe"]  # what came later counts where it is said, or each old key would be another one
    return digest_of([spec, facts.artifacts, *([target.explanation] if target.explanation else [])])[:32]


def labels(target: Target, facts: Facts) -> dict[str, str]:
    """A version's labels (64 characters of [a-z0-9_-] each)."""
    found = {OURS: target.endpoint, IMAGE: short(facts.digest)}
    return {**target.labels, **found, **({ARTIFACTS: short(facts.artifacts)} if facts.artifacts else {})}


def mark(target: Target, facts: Facts) -> str:
    """The description of a version of ours: the endpoint that it was uploaded for, and its key."""
    return f"cpr up: endpoint {target.endpoint}, key {key(target, facts)}"


def made_for(version: Version) -> str | None:
    """The endpoint that this kit uploaded a version for; None for versions of others."""
    found = _MARK.fullmatch(version.description)
    return found[1] if found else None


def key_of(target: Target, version: Version) -> str | None:
    """The key of a version that is ours."""
    found = _MARK.fullmatch(version.description)
    return found[2] if found and found[1] == target.endpoint else None


def short(digest: str | None) -> str:
    """A digest as a label's value.

    >>> short("sha256:0123456789012345678901234567890123456789abcdef")
    '0123456789012345678901234567890123456789'
    """
    return (digest or "").rpartition(":")[2][:40]


def is_ours(endpoint: Endpoint) -> bool:
    return OURS in endpoint.labels


def wanted(target: Target, facts: Facts) -> Version | None:
    """The version that is wanted, if it exists: of several, the oldest, so that all runs agree."""
    ours = key(target, facts)
    return next((each for each in facts.versions if ours and key_of(target, each) == ours), None)


def live(target: Target, facts: Facts) -> Version | None:
    """Our version that serves, or served until a canary began."""
    return next((each for each in facts.versions if LIVE in each.aliases and key_of(target, each)), None)


def deployed_of(facts: Facts, version: Version | None) -> list[Deployed]:
    """A version's deployed models at the endpoint, the one with the most traffic first."""
    if version is None or facts.endpoint is None:
        return []
    found = [d for d in facts.endpoint.deployed if (d.model, d.number) == (version.model, version.number)]
    return sorted(found, key=lambda each: -each.traffic)


def unfinished(target: Target, facts: Facts) -> list[Version]:
    """Versions of ours that an ended run was about to make live, the wanted one apart."""
    now = wanted(target, facts)
    return [each for each in facts.versions if each != now and key_of(target, each) and candidacy(each)]


def deployed_id(target: Target, version: Version) -> str:
    """10 digits from the version and from all that a deployed model cannot change later (MutateDeployedModel)."""
    scale = target.scale
    machine: list[Any] = [scale.machine_type, scale.accelerator_type, scale.accelerator_count, scale.spot]
    machine += [[name, value] for name, value in _later(scale).items() if value]
    parts = [str(version), key_of(target, version), machine, target.service_account, target.access_logging]
    return str(10**9 + int(digest_of(parts), 16) % _DIGITS)


def _later(scale: Scale) -> dict[str, Any]:
    """Of a machine what counts where it is said alone, so that what was deployed before keeps its id."""
    return {"tpu_topology": scale.tpu_topology, "reservation": scale.reservation}


def current(target: Target, facts: Facts) -> Deployed | None:
    """The deployed model of the wanted version on the wanted machines."""
    version = wanted(target, facts)
    if version is None or facts.endpoint is None:
        return None
    wanted_id = deployed_id(target, version)
    return next((each for each in facts.endpoint.deployed if each.id == wanted_id), None)


def outdated(target: Target, facts: Facts) -> list[Deployed]:
    """The model's other deployed models, which the wanted one replaces."""
    if facts.endpoint is None:
        return []
    now = current(target, facts)
    return [each for each in facts.endpoint.deployed if each.model == target.model and each != now]


def previous(target: Target, facts: Facts) -> Deployed | None:
    """The one that stays deployed for a rollback, where the target says so: what served last."""
    if not target.keep_previous:
        return None
    now = wanted(target, facts)
    old = [each for each in outdated(target, facts) if now is None or each.number != now.number]
    serving = [each for each in old if each.traffic]
    if serving:
        return max(serving, key=lambda each: each.traffic)
    back = {each.number for each in facts.versions if PREVIOUS in each.aliases}
    return next((each for each in old if each.number in back), None)


def candidate(target: Target, facts: Facts) -> str:
    """The alias of a version that is being uploaded."""
    return f"{CANDIDATE}{(key(target, facts) or '')[:8]}"


def candidacy(version: Version) -> list[str]:
    """Its aliases as one that is not yet live."""
    return [name for name in version.aliases if name.startswith(CANDIDATE)]


def orphans(target: Target, facts: Facts) -> list[Version]:
    """Versions that an ended run left: uploaded by this kit, never live, not deployed, not wanted."""
    deployed = (
        {each.number for each in facts.endpoint.deployed if each.model == target.model} if facts.endpoint else set()
    )
    now = wanted(target, facts)
    seen: set[str] = set()
    found = []
    for version in facts.versions:
        found_key = key_of(target, version)
        doubled = found_key in seen
        seen.add(found_key or "")
        if not found_key or version.number in deployed or version == now:
            continue
        if not {LIVE, PREVIOUS} & set(version.aliases) and (candidacy(version) or doubled):
            found.append(version)
    return found


def label_mark(target: Target) -> str:
    """Our endpoint's description: which of its labels are from cpr.toml, so that others' stay when those go."""
    return f"cpr up: labels {', '.join(sorted(target.labels))}" if target.labels else ""


def gone_labels(target: Target, endpoint: Endpoint) -> set[str]:
    """Those that were taken out of cpr.toml."""
    found = _LABELS.fullmatch(endpoint.description)
    return set(found[1].split(", ")) - set(target.labels) if found else set()


def may_describe(endpoint: Endpoint) -> bool:
    """Whether the description is free, or the kit's: one that somebody wrote stays."""
    return not endpoint.description or _LABELS.fullmatch(endpoint.description) is not None


def endpoint_changes(target: Target, endpoint: Endpoint) -> list[str]:
    """The names of the fields that UpdateEndpoint has to write."""
    found = []
    differs = any(endpoint.labels.get(name) != value for name, value in target.labels.items())
    if is_ours(endpoint) and (differs or gone_labels(target, endpoint)):
        found.append("labels")
    if is_ours(endpoint) and not _logs_as_wanted(target, endpoint):
        found.append("predict_request_response_logging_config")
    if is_ours(endpoint) and target.inference_timeout_s and endpoint.inference_timeout_s != target.inference_timeout_s:
        found.append("client_connection_config")
    return found


def _logs_as_wanted(target: Target, endpoint: Endpoint) -> bool:
    """Vertex AI names the dataset and the table where cpr.toml does not (PredictRequestResponseLoggingConfig)."""
    logging, has = target.request_logging, endpoint.logging
    if logging is None or has is None:
        return logging is None and has is None
    return has[0] == logging.sampling_rate and f"{has[1]}.".startswith(f"{logging.table}.")


def required(scale: Scale) -> int:
    """The replicas that must answer; all that always run where nobody says it (DedicatedResources)."""
    return scale.required_replicas or scale.min_replicas


def same_scale(target: Target, deployed: Deployed) -> bool:
    """Whether all that MutateDeployedModel can change is as it is wanted."""
    wanted_scale, has = target.scale, deployed.scale
    same = (wanted_scale.min_replicas, wanted_scale.max_replicas) == (has.min_replicas, has.max_replicas)
    same = same and required(wanted_scale) == required(has)
    metrics = dict(wanted_scale.autoscaling) == dict(has.autoscaling)
    return same and metrics and target.container_logging == deployed.container_logging


def digest_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
