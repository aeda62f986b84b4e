"""Stands for google.cloud.aiplatform.prediction.sklearn.predictor."""

from cpr_kit.sdk.predictors import SklearnPredictor

__all__ = ["SklearnPredictor"]
