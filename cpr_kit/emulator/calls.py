"""The names of the emulator's calls, in the spellings that people use for them."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping

CALLS: Mapping[str, tuple[str, ...]] = {
    "ModelService": (
        *("UploadModel", "GetModel", "ListModels", "ListModelVersions", "ListModelVersionCheckpoints", "UpdateModel"),
        *("DeleteModel", "DeleteModelVersion", "MergeVersionAliases", "CopyModel", "ExportModel"),
    ),
    "EndpointService": (
        *("CreateEndpoint", "GetEndpoint", "ListEndpoints", "UpdateEndpoint", "UpdateEndpointLongRunning"),
        *("DeleteEndpoint", "DeployModel", "UndeployModel", "MutateDeployedModel"),
    ),
    "PredictionService": (
        *("Predict", "RawPredict", "StreamRawPredict", "DirectPredict", "DirectRawPredict", "StreamDirectPredict"),
        *("StreamDirectRawPredict", "StreamingPredict", "ServerStreamingPredict", "StreamingRawPredict", "Explain"),
        "Invoke",  # over REST alone
    ),
    "JobService": (
        *(f"{verb}BatchPredictionJob" for verb in ("Create", "Get", "Cancel", "Delete")),
        "ListBatchPredictionJobs",
    ),
    "DeploymentResourcePoolService": (
        *(f"{verb}DeploymentResourcePool" for verb in ("Create", "Get", "Update", "Delete")),
        *("ListDeploymentResourcePools", "QueryDeployedModels"),
    ),
    "Operations": ("GetOperation", "ListOperations", "WaitOperation", "CancelOperation", "DeleteOperation"),
    "storage": (
        *(f"objects.{verb}" for verb in ("insert", "get", "list", "delete", "copy", "rewrite", "compose", "patch")),
        *(f"buckets.{verb}" for verb in ("insert", "get", "list", "delete", "patch")),
    ),
    "oauth2": ("token",),
}
"""What a fault can be put on, by service; `replica` and `*` beside these."""
OPERATIONS = frozenset(
    {
        *("UploadModel", "DeleteModel", "DeleteModelVersion", "CopyModel", "ExportModel"),
        *("CreateEndpoint", "UpdateEndpointLongRunning", "DeleteEndpoint"),
        *("DeployModel", "UndeployModel", "MutateDeployedModel", "DeleteBatchPredictionJob"),
        *(f"{verb}DeploymentResourcePool" for verb in ("Create", "Update", "Delete")),
        "CreateBatchPredictionJob",  # The job ends with the error.
    }
)
"""The calls whose work goes on after the answer: `fail` is for these."""
_SHORT = {
    "upload": "UploadModel",
    "deploy": "DeployModel",
    "undeploy": "UndeployModel",
    "batch": "CreateBatchPredictionJob",
}
REPLICA = "replica"
ANY = "*"


@functools.lru_cache(maxsize=1024)
def canonical(name: str) -> str | None:
    """The full name, `ModelService.UploadModel`, of `upload_model`, a gRPC path or an alias; a service's own name."""
    if name in {ANY, REPLICA}:
        return name
    parts = [_plain(part) for part in name.replace("/", ".").strip(".").split(".")]
    if parts[0] == "google":  # google.cloud.aiplatform.v1.ModelService/UploadModel
        parts = parts[-2:]
    elif parts[0] == "projects":  # projects.locations.endpoints.deployModel
        parts = parts[-1:]
    return _names().get(".".join(parts))


@functools.cache
def _names() -> Mapping[str, str]:
    """Every accepted name, plain, and what it stands for."""
    names: dict[str, str] = {}
    for service, methods in CALLS.items():
        names[_plain(service)] = service
        for method in methods:
            names[_plain(method)] = names[_plain(f"{service}.{method}")] = f"{service}.{method}"
    names |= {f"storage.{kind}": f"storage.{kind}" for kind in ("objects", "buckets")}
    names |= {short: names[_plain(method)] for short, method in _SHORT.items()}
    return names


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def begins_operation(name: str) -> bool:
    """Whether a call, or one of a service's calls, is in OPERATIONS; `name` is canonical."""
    works = [f"{service}.{method}" for service, methods in CALLS.items() for method in methods if method in OPERATIONS]
    return name == ANY or any(work == name or work.startswith(f"{name}.") for work in works)


def has_location(name: str) -> bool:
    """Whether a call, or one of a service's calls, is about a resource in a location; `name` is canonical."""
    return name.partition(".")[0] not in ("storage", "oauth2")


def suggestion(call: str) -> str:
    """The end of a sentence that says that there is no such call."""
    near = difflib.get_close_matches(_plain(call), _names(), n=3, cutoff=0.6)
    meant = dict.fromkeys(_names()[name].rpartition("Service.")[2] for name in near)
    if meant:
        return f": did you mean {' or '.join(meant)}?"
    return ': it is a method such as predict or DeployModel, a service, storage, oauth2.token, replica or "*"'
