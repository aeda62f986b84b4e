"""Stands for google.cloud.aiplatform.prediction.xgboost."""

from __future__ import annotations

from typing import Any

from cpr_kit.sdk import lookup
from cpr_kit.sdk.predictors import XgboostPredictor

__all__ = ["XgboostPredictor"]


def __getattr__(name: str) -> Any:
    return lookup.attribute(__name__, name, ("predictor",))
