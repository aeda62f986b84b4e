"""Stands for google.cloud.aiplatform.prediction.handler."""

from cpr_kit.runtime.handler import PredictionHandler
from cpr_kit.sdk.handler import Handler

__all__ = ["Handler", "PredictionHandler"]
