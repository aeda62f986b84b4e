"""Stands for google.cloud.aiplatform.prediction.local_model, which builds images: no container needs it."""

from __future__ import annotations

from typing import Any

from cpr_kit.sdk import lookup

__all__ = ["LocalModel"]  # noqa: F822  fetched below


def __getattr__(name: str) -> Any:
    return lookup.attribute(__name__, name, (), {"LocalModel": "cpr_kit.compat.local_model"})
