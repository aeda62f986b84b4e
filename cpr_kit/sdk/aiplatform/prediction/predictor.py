"""Stands for google.cloud.aiplatform.prediction.predictor."""

from cpr_kit.runtime.predictor import Predictor

__all__ = ["Predictor"]
