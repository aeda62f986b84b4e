"""Stands for google.cloud.aiplatform.prediction.local_endpoint, which runs containers: no container needs it."""

from __future__ import annotations

from typing import Any

from cpr_kit.sdk import lookup

__all__ = ["LocalEndpoint"]  # noqa: F822  fetched below


def __getattr__(name: str) -> Any:
    return lookup.attribute(__name__, name, (), {"LocalEndpoint": "cpr_kit.harness.endpoint"})
