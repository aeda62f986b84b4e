"""What no source settles about the real service, and what this machine cannot do at its size: one name each.

Everything marked UNCONFIRMED in docs/emulator_parity.md stands here with its default; change it with
`cpr emulate --set NAME=VALUE` when the service turns out otherwise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Any

from cpr_kit.emulator.quotas import Quotas
from cpr_kit.errors import UsageError

_WEEK_S = 7 * 86_400.0


def _from(low: float, high: float, **default: Any) -> Any:
    """A field whose value is one of these."""
    return field(metadata={"range": (low, high)}, **default)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Raises UsageError for a value out of its range."""

    # What the service does, as far as anyone knows.
    other_errors_keep_status: bool = True
    """A container's 404, 422 or 429 on predict: the client gets that status (else 400)."""
    not_json_status: int = _from(400, 599, default=500)
    """A container's 200 that is no JSON, or has no "predictions", on predict: the client's status (400 or 500)."""
    too_large_status: int = _from(400, 599, default=400)
    """A body over the endpoint's limit."""
    drop_extra_keys: bool = True
    """Top-level keys of a container's answer other than predictions and metadata are dropped on predict."""
    check_prediction_count: bool = False
    """Refuse an answer with more or fewer predictions than instances."""
    model_headers_on_raw_predict: bool = True
    """rawPredict answers carry X-Vertex-AI-Model and -Model-Version-Id too: the SDK's use_raw_predict needs them."""
    pass_request_headers: bool = True
    """On rawPredict, the caller's own headers (x-*) reach the container."""
    google_cloud_project: bool = False
    """Containers get GOOGLE_CLOUD_PROJECT, which is not in Vertex AI's list."""
    deployment_timeout_s: float = _from(0.001, _WEEK_S, default=1800.0)
    """How long a deployment may take when the model does not say (deploymentTimeout)."""
    liveness_probe: bool = True
    """livenessProbe is honoured."""
    batch_retry_elapsed_s: float = _from(0.001, _WEEK_S, default=600.0)
    """How long one attempt of a batch request may take; there are three."""
    batch_backoff_s: float = _from(0.0, _WEEK_S, default=1.0)
    """Between the attempts of a batch request; it doubles."""
    batch_directory_iso: bool = False
    """The output directory's time as the documents have it, not as it was seen (2021_03_23T12_05_07_282Z)."""
    batch_fail_share: float = _from(0.0, 1.0, default=1.0)
    """A batch job fails when more than this share of its rows failed. 1: only when all of them did."""
    scale_to_zero_message: str = "Model is not yet ready for inference. Please try again later."

    compare_etags: bool = True
    """An update with the etag of an older state is refused (ABORTED), as the fields' descriptions have it."""

    # What this machine does instead.
    max_replicas: int = _from(1, 1000, default_factory=lambda: max(os.cpu_count() or 1, 1))
    """The replicas of a deployed model that are really started: min_replica_count, but no more than these."""
    drain_s: float = _from(0.0, _WEEK_S, default=30.0)
    """How long an undeployed model may take for the requests it has."""
    hold_s: float = _from(0.0, _WEEK_S, default=30.0)
    """How long GetOperation and GetBatchPredictionJob wait for the end, so that the SDK need not poll."""
    denied_permissions: tuple[str, ...] = ()
    """Permissions that no caller has, by name: what needs one is refused, and testIamPermissions says so."""
    missing: tuple[str, ...] = ()
    """What is not there: a service account's address, a repository as LOCATION/NAME, a service's name."""
    quotas: tuple[str, ...] = ()
    """Limits as custom_model_serving_cpus=8, or custom_model_serving_cpus@europe-west4=8 for one region."""
    page_size: int = _from(1, 100_000, default=100)
    """Entries of a list's page when the caller does not say."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            low, high = each.metadata.get("range", (value, value))
            if not low <= value <= high:
                raise UsageError(f"the setting {each.name} must be from {low} to {high}, not {value}")
        Quotas(self.quotas)
