"""Stands for google.cloud.aiplatform.prediction.xgboost.predictor."""

from cpr_kit.sdk.predictors import XgboostPredictor

__all__ = ["XgboostPredictor"]
