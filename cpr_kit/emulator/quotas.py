"""The quotas of machines that serve, where a setting gives one ("Vertex AI quotas and limits")."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from cpr_kit.emulator.errors import resource_exhausted
from cpr_kit.errors import UsageError

_SERVICE = "aiplatform.googleapis.com"
CPUS = "custom_model_serving_cpus"
"""Of the machine families n1 and e2; the others have metrics of their own, as custom_model_serving_n2_cpus."""
_QUOTA = re.compile(r"(custom_model_serving_[a-z0-9_]+)(?:@([a-z]+(?:-[a-z0-9]+)*))?=([0-9]{1,9})")
_CORES = re.compile(r"([a-z0-9]+)-[a-z]+-([0-9]+)")
_SHARED_FAMILIES = ("n1", "e2")
_UNLIMITED = -1


class Quotas:
    """From texts METRIC=LIMIT or METRIC@REGION=LIMIT. Raises UsageError for one of another form."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._limits: dict[str, dict[str, int]] = {CPUS: {}}
        for text in texts:
            match = _QUOTA.fullmatch(text)
            if match is None:
                raise UsageError(f'the quota "{text}" is not of the form {CPUS}=8 or {CPUS}@europe-west4=8')
            self._limits.setdefault(match[1], {})[match[2] or ""] = int(match[3])

    def limit(self, metric: str, region: str) -> int | None:
        limits = self._limits.get(metric, {})
        return limits.get(region, limits.get(""))

    def metrics(self, parent: str) -> list[dict[str, Any]]:
        """As Service Usage tells them (ConsumerQuotaMetric). A limit of -1 is none."""
        return [self._metric(parent, metric, limits) for metric, limits in self._limits.items()]

    def _metric(self, parent: str, metric: str, limits: dict[str, int]) -> dict[str, Any]:
        name = f"{parent}/consumerQuotaMetrics/{_SERVICE}%2F{metric}"
        everywhere = str(limits.get("", _UNLIMITED))
        buckets: list[dict[str, Any]] = [{"effectiveLimit": everywhere, "defaultLimit": everywhere}]
        for region, limit in limits.items():
            if region:
                own = {"effectiveLimit": str(limit), "defaultLimit": everywhere, "dimensions": {"region": region}}
                buckets.append(own)
        of_region = {
            "name": f"{name}/limits/%2Fproject%2Fregion",
            "unit": "1/{project}/{region}",
            "metric": f"{_SERVICE}/{metric}",
            "quotaBuckets": buckets,
        }
        return {
            "name": name,
            "metric": f"{_SERVICE}/{metric}",
            "displayName": metric,
            "consumerQuotaLimits": [of_region],
        }

    def check(self, wanted: Any, others: Iterable[Any], region: str) -> None:
        """Whether a DedicatedResources fits in beside others. Raises RESOURCE_EXHAUSTED."""
        needed, used = usage(wanted), Counter[str]()
        for each in others:
            used.update(usage(each))
        exceeded = [
            f"{_SERVICE}/{metric}"
            for metric, amount in needed.items()
            if (limit := self.limit(metric, region)) is not None and used[metric] + amount > limit
        ]
        if exceeded:
            raise resource_exhausted(f"The following quota metrics exceed quota limits: {','.join(exceeded)}")


def usage(resources: Any) -> Counter[str]:
    """What a DedicatedResources counts for at its most replicas (UNCONFIRMED: that it is at the most)."""
    replicas = max(resources.max_replica_count, resources.min_replica_count)
    machine = resources.machine_spec
    counted: Counter[str] = Counter()
    if cores := _CORES.fullmatch(machine.machine_type):
        family = "" if cores[1] in _SHARED_FAMILIES else f"{cores[1]}_"
        counted[f"custom_model_serving_{family}cpus"] = int(cores[2]) * replicas
    if machine.accelerator_type:
        kind = type(machine).DESCRIPTOR.fields_by_name["accelerator_type"].enum_type
        name = kind.values_by_number[machine.accelerator_type].name.lower().replace("_tesla_", "_")
        counted[f"custom_model_serving_{name}_gpus"] = (machine.accelerator_count or 1) * replicas
    return counted
