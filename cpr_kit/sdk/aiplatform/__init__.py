"""Stands for google.cloud.aiplatform: what a predictor, a handler or an entry point takes from it."""

from __future__ import annotations

from typing import Any

from cpr_kit.sdk import lookup

__all__ = ["constants", "prediction", "utils"]


def __getattr__(name: str) -> Any:
    return lookup.attribute(__name__, name, __all__)
