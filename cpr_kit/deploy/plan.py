"""What would be done, decided from what is wanted and what exists. Pure: no calls, the same answer every time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cpr_kit.deploy.facts import (
    ARTIFACTS,
    IMAGE,
    LIVE,
    Facts,
    current,
    deployed_of,
    digest_of,
    endpoint_changes,
    gone_labels,
    is_ours,
    made_for,
    orphans,
    outdated,
    previous,
    required,
    same_scale,
    short,
    wanted,
)
from cpr_kit.deploy.lease import LABEL as LEASE
from cpr_kit.deploy.resources import Deployed, Endpoint
from cpr_kit.deploy.target import Scale, Target
from cpr_kit.deploy.traffic import ALL
from cpr_kit.errors import DeployError

ASKED = 5
"""Percent of the traffic that a new version gets without a canary, until it has answered the checks."""

Action = Literal["keep", "push", "stage", "create", "change", "upload", "deploy", "shift", "undeploy", "delete"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that is done, or is kept as it is (`keep`). `takes` is "" where nobody can know it."""

    action: Action
    what: str
    name: str
    reason: str = ""
    takes: str = ""


@dataclass(frozen=True, kw_only=True)
class RegionPlan:
    """All that `up` would do in one region. `fingerprint` is that of what exists and of what is wanted."""

    project: str
    region: str
    endpoint: str
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def changes(self) -> bool:
        return any(step.action != "keep" for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RegionPlan:
        steps = tuple(Step(**step) for step in value["steps"])
        return cls(**{**value, "steps": steps, "warnings": tuple(value["warnings"])})


def decide(target: Target, facts: Facts, *, canary: int = 0, warnings: tuple[str, ...] = ()) -> RegionPlan:
    """Raises DeployError where the plan cannot be: an endpoint of another kind, or one that serves others' models."""
    _possible(target, facts)
    steps = (
        *_image_steps(target, facts),
        *_endpoint_steps(target, facts),
        *_version_steps(target, facts),
        *_deployment_steps(target, facts, canary),
        *_removals(target, facts),
    )
    return RegionPlan(
        project=target.project,
        region=target.region,
        endpoint=target.endpoint,
        steps=steps,
        warnings=warnings,
        fingerprint=fingerprint(target, facts, canary),
    )


def fingerprint(target: Target, facts: Facts, canary: int) -> str:
    """Of all that the decision depends on; the lease does not belong to it, and an etag changes with it."""
    endpoint = facts.endpoint
    if endpoint is not None:
        kept = {name: value for name, value in endpoint.labels.items() if name != LEASE}
        endpoint = replace(endpoint, etag="", labels=kept)
        endpoint = replace(endpoint, deployed=tuple(replace(d, available_replicas=None) for d in endpoint.deployed))
    if target.artifacts and not target.artifacts.startswith("gs://"):
        target = replace(target, artifacts="")  # what is in the folder counts, not where this clone of it lies
    return digest_of([asdict(target), asdict(replace(facts, endpoint=endpoint, last_took_s=None)), canary])[:32]


def first_share(target: Target, canary: int) -> int:
    """What a new version gets before it has all the traffic: a canary's share, or enough to be asked the checks."""
    if canary:
        return canary
    return ASKED if target.checks and target.kind in ("public", "dedicated") else 0


def check_alone(target: Target, facts: Facts) -> None:
    """Raises DeployError where the endpoint or the model serves others too: their traffic and versions stay theirs."""
    for version in facts.versions:
        owner = made_for(version)
        if owner not in (None, target.endpoint):
            raise DeployError(
                f"model {target.model} in {target.region} has versions for endpoint {owner}, and this is "
                f"{target.endpoint}: live, previous and rollback would be both endpoints'",
                "give this endpoint a model of its own: [deploy] model",
            )
    endpoint = facts.endpoint
    others = [each for each in endpoint.deployed if each.model != target.model] if endpoint else []
    serving = sum(each.traffic for each in others)
    if serving:
        names = ", ".join(sorted({each.version for each in others if each.traffic}))
        raise DeployError(
            f"endpoint {target.endpoint} in {target.region} gives {serving} % of its traffic to models that are not "
            f"{target.model}: {names}",
            "give this model an endpoint of its own: [deploy] endpoint",
        )


def _possible(target: Target, facts: Facts) -> None:
    check_alone(target, facts)
    endpoint = facts.endpoint
    if endpoint is None:
        return
    if endpoint.kind != target.kind:
        raise DeployError(
            f"endpoint {target.endpoint} in {target.region} is {endpoint.kind}, and [deploy] kind is {target.kind}: "
            "the kind of an endpoint cannot be changed",
            "name another endpoint in [deploy] endpoint, or delete this one: cpr down",
        )
    _same_network(target, endpoint)
    if target.kind == "psa" and endpoint.deployed and current(target, facts) is None:
        # A private endpoint with VPC peering has one deployed model ("Choose an endpoint type").
        raise DeployError(
            f"endpoint {target.endpoint} is on a peered network (psa), which takes one deployed model and no split; "
            f"it has {endpoint.deployed[0].version}",
            'cpr down, then cpr up (it does not serve in between); or kind = "psc", which takes several',
        )


def _same_network(target: Target, endpoint: Endpoint) -> None:
    """Neither can be changed later (Endpoint.network, "Use Private Service Connect endpoints")."""
    if target.kind == "psa":
        key, has, wants = "network", endpoint.network, target.network or ""
        line = f'network = "{has}"'
    else:
        key, has, wants = "project_allowlist", _listed(endpoint.project_allowlist), _listed(target.project_allowlist)
        line = f"project_allowlist = {json.dumps(endpoint.project_allowlist)}"
    if has == wants or (target.kind == "psc" and _may_be_same(target.project_allowlist, endpoint.project_allowlist)):
        return
    raise DeployError(
        f"endpoint {target.endpoint} in {target.region} has {f'the {key} {has}' if has else f'no {key}'}, and in "
        f"cpr.toml it is {wants or 'none'}: it cannot be changed",
        f"{f'write it as it is: {line}; or ' if has else ''}name another endpoint in [deploy] endpoint, or delete this "
        "one: cpr down",
    )


def _may_be_same(ones: Sequence[str], others: Sequence[str]) -> bool:
    """A project has an id and a number, and no document says which of them Vertex AI answers with."""
    here, there = set(ones) - set(others), set(others) - set(ones)
    return len(here) == len(there) and sum(map(str.isdigit, here)) == sum(not each.isdigit() for each in there)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names))


def _image_steps(target: Target, facts: Facts) -> Iterator[Step]:
    if facts.digest is None:
        yield Step(action="push", what="image", name=target.image, reason="its registry does not have it yet")
    else:
        yield Step(action="keep", what="image", name=facts.reference)


def _endpoint_steps(target: Target, facts: Facts) -> Iterator[Step]:
    endpoint = facts.endpoint
    if endpoint is None:
        yield Step(
            action="create", what="endpoint", name=target.endpoint, reason=f"there is none of that name ({target.kind})"
        )
        return
    changes = endpoint_changes(target, endpoint)
    if changes:
        gone = gone_labels(target, endpoint) if "labels" in changes else set()
        reason = ", ".join(changes) + (f" (without {', '.join(sorted(gone))})" if gone else "")
        yield Step(action="change", what="endpoint", name=endpoint.id, reason=reason, takes="seconds")
    else:
        made = "" if is_ours(endpoint) else "made by others: it is used, and never deleted"
        yield Step(action="keep", what="endpoint", name=endpoint.id, reason=made)


def _version_steps(target: Target, facts: Facts) -> Iterator[Step]:
    version = wanted(target, facts)
    if version is not None:
        now = current(target, facts)
        if now and now.traffic == ALL and LIVE not in version.aliases:
            yield Step(action="change", what="model version", name=str(version), reason="it serves: live is its alias")
        else:
            yield Step(action="keep", what="model version", name=str(version), reason="same image, artifacts and start")
        return
    if target.artifacts and target.staging:
        yield Step(action="stage", what="artifacts", name=target.artifacts, reason=f"to {target.staging}")
    reason = "the first" if not facts.versions else _difference(facts)
    yield Step(action="upload", what="model version", name=target.model, reason=reason, takes="about a minute")


def _difference(facts: Facts) -> str:
    last = next((each for each in facts.versions if LIVE in each.aliases), facts.versions[-1])
    if facts.digest is None or last.labels.get(IMAGE) != short(facts.digest):
        return f"another image than {last}"
    if last.labels.get(ARTIFACTS, "") != short(facts.artifacts):
        return f"other artifacts than {last}"
    return f"another start than {last} (variables, routes, ports, command, probes or explanation)"


def _deployment_steps(target: Target, facts: Facts, canary: int) -> Iterator[Step]:
    now, old = current(target, facts), outdated(target, facts)
    name = str(wanted(target, facts) or f"{target.model}@new")
    if now is None:
        before = deployed_of(facts, wanted(target, facts))
        changes = ", ".join(_fixed_changes(target, before[0])) if before else ""
        machine = f"{changes or target.scale.machine_type}, {replicas(target.scale)}"
        yield Step(action="deploy", what="deployed model", name=name, reason=machine, takes=_time(facts))
    elif not same_scale(target, now):
        changed = _scale_changes(target, now)
        yield Step(action="change", what="deployed model", name=name, reason=changed, takes="minutes for new machines")
    else:
        yield Step(action="keep", what="deployed model", name=name, reason=replicas(now.scale))
    share = now.traffic if now else 0
    if share == ALL:
        return
    first = first_share(target, canary) if any(each.traffic for each in old) else 0
    if first:
        why = "for the canary" if canary else "until it has answered the checks"
        yield Step(action="shift", what="traffic", name=name, reason=f"{first} % {why}", takes="seconds")
    yield Step(action="shift", what="traffic", name=name, reason=f"{share} % -> {ALL} %", takes="seconds")


def _fixed_changes(target: Target, now: Deployed) -> Iterator[str]:
    """What a deployed model cannot change later, so that the version is deployed anew (MutateDeployedModel)."""
    has, wants = now.scale, target.scale
    pairs = (
        ("machine", has.machine_type, wants.machine_type),
        ("accelerators", _accelerators(has), _accelerators(wants)),
        ("tpu_topology", has.tpu_topology, wants.tpu_topology),
        ("spot", _yes(has.spot), _yes(wants.spot)),
        ("reservation", ", ".join(has.reservation), ", ".join(wants.reservation)),
        ("service_account", now.service_account, target.service_account),
        ("access_logging", _yes(now.access_logging), _yes(target.access_logging)),
    )
    yield from (f"{name} {old or 'none'} -> {new or 'none'}" for name, old, new in pairs if (old or "") != (new or ""))


def _accelerators(scale: Scale) -> str:
    return f"{scale.accelerator_count} x {scale.accelerator_type}" if scale.accelerator_type else ""


def _yes(value: bool) -> str:
    return "on" if value else "off"


def _scale_changes(target: Target, now: Deployed) -> str:
    changes = [f"{replicas(now.scale)} -> {replicas(target.scale)}"] * (replicas(now.scale) != replicas(target.scale))
    has, wants = required(now.scale), required(target.scale)
    all_of_them = (has, wants) == (now.scale.min_replicas, target.scale.min_replicas)
    changes += [f"{has} -> {wants} of them required"] * (has != wants and not all_of_them)
    changes += ["autoscaling"] * (dict(now.scale.autoscaling) != dict(target.scale.autoscaling))
    changes += ["container_logging"] * (now.container_logging != target.container_logging)
    return ", ".join(changes)


def _removals(target: Target, facts: Facts) -> Iterator[Step]:
    kept = previous(target, facts)
    for each in outdated(target, facts):
        if each == kept:
            yield Step(action="keep", what="deployed model", name=each.version, reason="kept for a rollback")
        else:
            yield Step(action="undeploy", what="deployed model", name=each.version, reason="replaced", takes="a minute")
    for version in orphans(target, facts):
        yield Step(action="delete", what="model version", name=str(version), reason="left by a run that did not end")


def replicas(scale: Scale) -> str:
    if scale.min_replicas == scale.max_replicas:
        return f"{scale.min_replicas} replica{'s' * (scale.min_replicas > 1)}"
    return f"{scale.min_replicas} to {scale.max_replicas} replicas"


def _time(facts: Facts) -> str:
    if facts.last_took_s is None:
        return "minutes: machines start and pull the image"
    return f"about {facts.last_took_s:.0f} s, as the last time"
