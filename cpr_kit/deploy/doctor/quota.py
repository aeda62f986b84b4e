"""Whether the quota for machines that serve has room for what is asked: a limit is known, what is in use is not.

The names of the metrics are those of "Vertex AI quotas and limits" as far as they are documented; where the answer
has none of that name, nothing is said against the deployment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from cpr_kit.deploy.project import machines
from cpr_kit.deploy.target import Scale, Target
from cpr_kit.deploy.vertex.rest import Google, Reply
from cpr_kit.finding import Finding

Look = Callable[[], Iterator[Finding]]
_USAGE = "https://serviceusage.googleapis.com/v1beta1/projects"
_SERVICE = "aiplatform.googleapis.com"
_CORES = re.compile(r"[a-z0-9]+-(?:standard|highmem|highcpu|megamem|ultramem)-(\d+)")
_SHARED_FAMILIES = ("n1", "e2")
_PAGES = 50
_UNLIMITED = -1


def looks(target: Target, google: Google) -> tuple[tuple[str, Look], ...]:
    return (("quota", partial(_quota, target, google)),)


def needed(scale: Scale) -> dict[str, int]:
    """What the most replicas take together, by the name of its quota metric.

    >>> needed(Scale(machine_type="n1-standard-4", max_replicas=3))
    {'custom_model_serving_cpus': 12}
    """
    found = {}
    family = scale.machine_type.partition("-")[0]
    cores = _CORES.fullmatch(scale.machine_type)
    if cores:
        name = "cpus" if family in _SHARED_FAMILIES else f"{family}_cpus"
        found[f"custom_model_serving_{name}"] = int(cores[1]) * scale.max_replicas
    gpus = machines.built_in(scale.machine_type)
    if gpus is None and scale.accelerator_type:
        gpus = (scale.accelerator_type, scale.accelerator_count)
    if gpus is not None:
        name = gpus[0].lower().replace("_tesla_", "_")
        found[f"custom_model_serving_{name}_gpus"] = gpus[1] * scale.max_replicas
    return found


def _quota(target: Target, google: Google) -> Iterator[Finding]:
    wanted = needed(target.scale)
    if target.scale.spot:
        yield Finding.noted("quota", "not looked at: spot machines count against quotas of their own")
        return
    limits, refusal = _limits(target, google)
    if refusal is not None:
        yield Finding.noted("quota", f"could not be asked: Service Usage answered {refusal}")
        return
    if not wanted:
        yield Finding.noted("quota", f"not looked at: how much {target.scale.machine_type} counts is not known here")
    for name, amount in wanted.items():
        yield _compared(target, name, amount, limits.get(name))


def _compared(target: Target, name: str, amount: int, limit: int | None) -> Finding:
    what = f"{name} in {target.region}: {target.scale.max_replicas} x {target.scale.machine_type} take {amount}"
    if limit is None:
        return Finding.noted("quota", f"{what}; its limit is not among those that Service Usage told")
    if limit != _UNLIMITED and amount > limit:
        remedy = (
            f"fewer replicas or smaller machines, or ask for more: gcloud alpha services quota list "
            f"--service={_SERVICE} --consumer=projects/{target.project}, or IAM & Admin, Quotas"
        )
        return Finding("quota", False, f"{what}, and the limit is {limit}", remedy)
    told = "there is no limit" if limit == _UNLIMITED else f"the limit is {limit}, of which others may use some"
    return Finding("quota", True, f"{what}; {told}")


def _limits(target: Target, google: Google) -> tuple[dict[str, int], Reply | None]:
    """The limits that hold in the target's region, by the metric's short name."""
    url = f"{_USAGE}/{target.project}/services/{_SERVICE}/consumerQuotaMetrics"
    limits: dict[str, int] = {}
    token = ""
    for _ in range(_PAGES):
        reply = google.get(url, **({"pageToken": token} if token else {}))
        if not reply.passed:
            return limits, reply
        for metric in reply.body.get("metrics", ()):
            name = str(metric.get("metric", "")).removeprefix(f"{_SERVICE}/")
            found = [_limit(each, target.region) for each in metric.get("consumerQuotaLimits", ())]
            known = [each for each in found if each is not None]
            if known:
                limits[name] = min(known, key=lambda each: float("inf") if each == _UNLIMITED else each)
        token = str(reply.body.get("nextPageToken", ""))
        if not token:
            break
    return limits, None


def _limit(quota: Mapping[str, Any], region: str) -> int | None:
    """The region's own bucket, else the one for every region (ConsumerQuotaLimit.quota_buckets)."""
    everywhere = None
    for bucket in quota.get("quotaBuckets", ()):
        value = int(bucket.get("effectiveLimit", 0))
        where = bucket.get("dimensions", {}).get("region")
        if where == region:
            return value
        if where is None:
            everywhere = value
    return everywhere
