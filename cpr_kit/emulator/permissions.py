"""Which permission a call needs, where a setting takes it from the caller ("Vertex AI IAM permissions").

Everyone may do everything but what `Settings.denied_permissions` names: enough to see what a program makes of a
refusal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cpr_kit.emulator.errors import ApiError, permission_denied

ACT_AS = "iam.serviceAccounts.actAs"
"""Of whoever deploys with a custom service account ("Use a custom service account")."""


def _calls(service: str, collection: str, **calls: str) -> dict[str, str]:
    return {f"{service}.{call}": f"aiplatform.{collection}.{verb}" for call, verb in calls.items()}


NEEDED: Mapping[str, str] = {
    **_calls(
        "ModelService", "models",
        UploadModel="upload", CopyModel="upload", GetModel="get", ListModels="list",
        ListModelVersions="list", UpdateModel="update", MergeVersionAliases="update",
        DeleteModel="delete", DeleteModelVersion="delete", ExportModel="export",
    ),
    **_calls(
        "EndpointService", "endpoints",
        CreateEndpoint="create", GetEndpoint="get", ListEndpoints="list", UpdateEndpoint="update",
        UpdateEndpointLongRunning="update", MutateDeployedModel="update", DeleteEndpoint="delete",
        DeployModel="deploy", UndeployModel="undeploy",
    ),
    **_calls(
        "PredictionService", "endpoints",
        Predict="predict", RawPredict="predict", StreamRawPredict="predict", Invoke="predict",
        DirectPredict="predict", DirectRawPredict="predict", Explain="explain",
    ),
    **_calls(
        "JobService", "batchPredictionJobs",
        **{f"{verb.capitalize()}BatchPredictionJob": verb for verb in ("create", "get", "cancel", "delete")},
        ListBatchPredictionJobs="list",
    ),
    **{
        f"storage.objects.{call}": f"storage.objects.{verb}"
        for verb, calls in {
            "create": ("insert", "copy", "rewrite", "compose"), "get": ("get",), "list": ("list",),
            "update": ("patch",), "delete": ("delete",),
        }.items()
        for call in calls
    },
    **{
        f"storage.buckets.{call}": f"storage.buckets.{verb}"
        for call, verb in zip(
            ("insert", "get", "list", "patch", "delete"), ("create", "get", "list", "update", "delete"), strict=True
        )
    },
}  # fmt: skip
"""By call, with the names of `calls.CALLS`. That aliases, mutations and copies need these is UNCONFIRMED."""


def granted(asked: Collection[str], denied: Collection[str]) -> list[str]:
    """The answer of a testIamPermissions call."""
    return [each for each in asked if each not in denied]


def check(call: str, resource: str, denied: Collection[str]) -> None:
    """Raises PERMISSION_DENIED for a call whose permission is denied."""
    needed = NEEDED.get(call)
    if needed is not None and needed in denied:
        raise refusal(needed, resource)


def refusal(needed: str, resource: str) -> ApiError:
    """In the words of the services."""
    if needed.startswith("storage."):
        return permission_denied(
            f"The caller does not have {needed} access to the Google Cloud Storage {needed.split('.')[1][:-1]}. "
            f"Permission '{needed}' denied on resource (or it may not exist)."
        )
    return permission_denied(
        f"Permission '{needed}' denied on resource '//aiplatform.googleapis.com/{resource}' (or it may not exist)."
    )
