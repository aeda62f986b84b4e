"""Stands for google.cloud.aiplatform.prediction, with the submodules as attributes that samples of it use."""

from __future__ import annotations

from typing import Any

from cpr_kit.contract import DEFAULT_PORT as DEFAULT_HTTP_PORT
from cpr_kit.contract import KIT_HEALTH_ROUTE as DEFAULT_HEALTH_ROUTE
from cpr_kit.contract import KIT_PREDICT_ROUTE as DEFAULT_PREDICT_ROUTE
from cpr_kit.runtime.handler import PredictionHandler
from cpr_kit.runtime.predictor import Predictor
from cpr_kit.sdk import lookup
from cpr_kit.sdk.handler import Handler

_SUBMODULES = (
    *("handler", "handler_utils", "local_endpoint", "local_model", "model_server", "predictor", "serializer"),
    *("sklearn", "xgboost"),
)
# The server and its codecs are imported by those who ask; the tools have no use in a container.
_ELSEWHERE = {
    "DefaultSerializer": "cpr_kit.runtime.serializer",
    "LocalEndpoint": "cpr_kit.harness.endpoint",
    "LocalModel": "cpr_kit.compat.local_model",
    "ModelServer": "cpr_kit.sdk.server",
    "Serializer": "cpr_kit.runtime.serializer",
}

__all__ = [
    "DEFAULT_HEALTH_ROUTE",
    "DEFAULT_HTTP_PORT",
    "DEFAULT_PREDICT_ROUTE",
    "DefaultSerializer",
    "Handler",
    "LocalEndpoint",
    "LocalModel",
    "ModelServer",
    "PredictionHandler",
    "Predictor",
    "Serializer",
]


def __getattr__(name: str) -> Any:
    return lookup.attribute(__name__, name, _SUBMODULES, _ELSEWHERE)
