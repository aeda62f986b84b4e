"""Stands for google.cloud.aiplatform.prediction.sklearn."""

from __future__ import annotations

from typing import Any

from cpr_kit.sdk import lookup
from cpr_kit.sdk.predictors import SklearnPredictor

__all__ = ["SklearnPredictor"]


def __getattr__(name: str) -> Any:
    return lookup.attribute(__name__, name, ("predictor",))
