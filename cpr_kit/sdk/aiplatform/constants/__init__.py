"""Stands for google.cloud.aiplatform.constants."""

from __future__ import annotations

from typing import Any

from cpr_kit.sdk import lookup

__all__ = ["prediction"]


def __getattr__(name: str) -> Any:
    return lookup.attribute(__name__, name, __all__)
