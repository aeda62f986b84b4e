"""Machines that serve, their accelerators, and what their number of replicas may follow.

Families are those of "Configure compute resources for inference"; the GPUs of a family are those of Compute Engine's
"GPU machine types"; accelerators are the API's enum AcceleratorType, metrics those of AutoscalingMetricSpec and of the
SDK's Model.deploy.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping

from cpr_kit.deploy.project import sizes
from cpr_kit.errors import ConfigError

FAMILIES = (
    *("e2", "n1", "n2", "n2d", "n4", "c2", "c2d", "c3", "c3d", "c4", "m1", "m3", "t2d"),
    *("g2", "g4", "a2", "a3", "a4", "a4x"),
    *("ct5lp", "ct6e", "tpu7x"),
)
TPUS = ("ct5lp", "ct6e", "tpu7x")
ATTACHABLE: Mapping[str, tuple[int, ...]] = {
    "NVIDIA_TESLA_T4": (1, 2, 4),
    "NVIDIA_TESLA_P4": (1, 2, 4),
    "NVIDIA_TESLA_P100": (1, 2, 4),
    "NVIDIA_TESLA_V100": (1, 2, 4, 8),
}
"""The GPUs that are attached to a machine, with how many there may be: to the family n1 alone."""
BUILT_IN: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "g2": {
        **{f"g2-standard-{cores}": ("NVIDIA_L4", 1) for cores in (4, 8, 12, 16, 32)},
        "g2-standard-24": ("NVIDIA_L4", 2),
        "g2-standard-48": ("NVIDIA_L4", 4),
        "g2-standard-96": ("NVIDIA_L4", 8),
    },
    "g4": {f"g4-standard-{48 * gpus}": ("NVIDIA_RTX_PRO_6000", gpus) for gpus in (1, 2, 4, 8)},
    "a2": {
        **{f"a2-highgpu-{gpus}g": ("NVIDIA_TESLA_A100", gpus) for gpus in (1, 2, 4, 8)},
        "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
        **{f"a2-ultragpu-{gpus}g": ("NVIDIA_A100_80GB", gpus) for gpus in (1, 2, 4, 8)},
    },
    "a3": {
        **{f"a3-highgpu-{gpus}g": ("NVIDIA_H100_80GB", gpus) for gpus in (1, 2, 4, 8)},
        "a3-edgegpu-8g": ("NVIDIA_H100_80GB", 8),
        "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
        "a3-ultragpu-8g": ("NVIDIA_H200_141GB", 8),
    },
    "a4": {"a4-highgpu-8g": ("NVIDIA_B200", 8)},
    "a4x": {"a4x-highgpu-4g": ("NVIDIA_GB200", 4)},
}
"""The GPUs that a machine comes with, by family."""
ACCELERATORS = (*ATTACHABLE, *dict.fromkeys(gpu for family in BUILT_IN.values() for gpu, _ in family.values()))

CPU = "aiplatform.googleapis.com/prediction/online/cpu/utilization"
DUTY_CYCLE = "aiplatform.googleapis.com/prediction/online/accelerator/duty_cycle"
REQUESTS = "aiplatform.googleapis.com/prediction/online/request_count"
GPU_UTILIZATION = "prometheus.googleapis.com/vertex_dcgm_fi_dev_gpu_util"
VLLM_CACHE = "prometheus.googleapis.com/vertex_vllm_gpu_cache_usage_perc"
VLLM_WAITING = "prometheus.googleapis.com/vertex_vllm_num_requests_waiting"
METRICS: Mapping[str, str] = {"cpu": CPU, "gpu": DUTY_CYCLE, "requests_per_minute": REQUESTS}
"""The short names of cpr.toml. The others have their full names alone."""

_ALL_METRICS = (CPU, DUTY_CYCLE, REQUESTS, GPU_UTILIZATION, VLLM_CACHE, VLLM_WAITING)
_PERCENT = (CPU, DUTY_CYCLE, GPU_UTILIZATION, VLLM_CACHE)
_OF_ACCELERATORS = (DUTY_CYCLE, GPU_UTILIZATION, VLLM_CACHE)
_PUBSUB = "pubsub.googleapis.com/subscription/num_undelivered_messages"
_MACHINE = re.compile(r"([a-z0-9]+)-[a-z0-9]+(-[a-z0-9]+)*")
_WHOLE = 100
_TOPOLOGY = re.compile(r"[1-9][0-9]{0,3}(x[1-9][0-9]{0,3}){1,2}")
_CHIPS = re.compile(r".*-([0-9]+)t")


def built_in(machine: str) -> tuple[str, int] | None:
    """The GPUs a machine comes with: their type and number."""
    return BUILT_IN.get(machine.partition("-")[0], {}).get(machine)


def check(machine: str, accelerator: str | None, count: int) -> None:
    """Raises ConfigError for a machine that does not serve, and for an accelerator that it cannot have."""
    family = machine.partition("-")[0]
    if not _MACHINE.fullmatch(machine):
        raise ConfigError(
            f'[deploy] machine_type is "{machine}"; it is written like "n1-standard-4" or "g2-standard-12"'
        )
    if family not in FAMILIES:
        close = difflib.get_close_matches(family, FAMILIES, 1, 0.5)
        hint = f'; did you mean "{close[0]}{machine[len(family) :]}"?' if close else ""
        raise ConfigError(
            f'[deploy] machine_type is "{machine}", of a family that does not serve{hint} ({", ".join(FAMILIES)} do)'
        )
    if accelerator is None and count:
        raise ConfigError(f"[deploy] accelerator_count is {count}, and accelerator_type is missing")
    if accelerator is not None:
        _check_accelerator(machine, family, accelerator, count)


def _check_accelerator(machine: str, family: str, accelerator: str, count: int) -> None:
    if accelerator not in ACCELERATORS:
        close = difflib.get_close_matches(accelerator.upper(), ACCELERATORS, 1)
        hint = f'did you mean "{close[0]}"?' if close else f"known are {', '.join(ACCELERATORS)}"
        raise ConfigError(f'[deploy] accelerator_type is "{accelerator}", which no machine that serves has; {hint}')
    if family == "n1":
        if accelerator not in ATTACHABLE:
            raise ConfigError(
                f"[deploy] machine_type {machine} takes no {accelerator}: to n1 machines are attached "
                f"{', '.join(ATTACHABLE)}; {accelerator} comes with {_machines_with(accelerator)}"
            )
        if count not in ATTACHABLE[accelerator]:
            numbers = ", ".join(map(str, ATTACHABLE[accelerator]))
            raise ConfigError(f"[deploy] accelerator_count is {count}; of {accelerator} there may be {numbers}")
        return
    fixed = built_in(machine)
    if family not in BUILT_IN:
        takes = "an n1 machine" if accelerator in ATTACHABLE else _machines_with(accelerator)
        raise ConfigError(f"[deploy] machine_type {machine} takes no accelerator; for {accelerator} it is {takes}")
    if fixed is not None and fixed != (accelerator, count):
        raise ConfigError(
            f"[deploy] machine_type {machine} comes with {fixed[1]} x {fixed[0]}, not {count} x {accelerator}; "
            "leave accelerator_type and accelerator_count out"
        )


def check_topology(machine: str, topology: str | None) -> None:
    """MachineSpec.tpu_topology: the chips of all hosts, such as 2x2x1; a machine's own are in its name, such as -4t."""
    if topology is None:
        return
    if machine.partition("-")[0] not in TPUS:
        raise ConfigError(
            f'[deploy] tpu_topology is "{topology}", and machine_type {machine} has no TPU; {", ".join(TPUS)} have'
        )
    if not _TOPOLOGY.fullmatch(topology):
        raise ConfigError(f'[deploy] tpu_topology is "{topology}"; it is written like "2x2" or "2x2x1"')
    chips, own = math.prod(map(int, topology.split("x"))), _CHIPS.fullmatch(machine)
    if own is not None and int(own[1]) and chips % int(own[1]):
        raise ConfigError(
            f'[deploy] tpu_topology is "{topology}", {chips} TPU chip{"s" * (chips > 1)}, and machine_type '
            f"{machine} has {own[1]}: it is a multiple of those"
        )


def warnings(machine: str) -> Iterator[str]:
    """Of a size that this kit does not know: Google adds some, so it may be right."""
    family = machine.partition("-")[0]
    known = tuple(BUILT_IN.get(family, ())) or sizes.of(family)
    if known and machine not in known:
        close = difflib.get_close_matches(machine, known, 3)
        yield (
            f"machine_type {machine} is none of the {family} machines that this kit knows; Vertex AI says at the "
            f"deployment whether there is one; known are {', '.join(close or known)}"
        )


def _machines_with(accelerator: str) -> str:
    found = [name for family in BUILT_IN.values() for name, (gpu, _) in family.items() if gpu == accelerator]
    return " or ".join(found) or "no machine that this kit knows"


def metric(name: str) -> str:
    """The full name of a metric, from that or the short one. Raises ConfigError."""
    if name in METRICS or name in _ALL_METRICS:
        return METRICS.get(name, name)
    if name == _PUBSUB:
        raise ConfigError(
            f'[deploy] autoscaling has "{name}", which needs the labels of a subscription: '
            "Vertex AI takes those in its v1beta1 API alone, and this kit deploys through v1"
        )
    close = difflib.get_close_matches(name, (*METRICS, *_ALL_METRICS), 1, 0.5)
    hint = f'did you mean "{close[0]}"?' if close else f"known are {', '.join((*METRICS, *_ALL_METRICS))}"
    raise ConfigError(f'[deploy] autoscaling has "{name}", which is no metric of Vertex AI; {hint}')


def check_metric(name: str, target: int, *, has_accelerator: bool) -> None:
    """Raises ConfigError for a target that a metric cannot have (AutoscalingMetricSpec.target)."""
    full = metric(name)
    if target < 1 or (full in _PERCENT and target > _WHOLE):
        allowed = f"a percentage from 1 to {_WHOLE}" if full in _PERCENT else "a number from 1 up"
        raise ConfigError(f"[deploy] autoscaling {name} is {target}; it is {allowed}")
    if full in _OF_ACCELERATORS and not has_accelerator:
        raise ConfigError(f"[deploy] autoscaling {name} is a metric of accelerators, and the machine has none")
