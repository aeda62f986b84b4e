"""Custom Prediction Routine containers for Vertex AI.

Subclass `Preprocessor`, `Predictor` or `Handler`; the kit builds the image, runs it here as Vertex AI
would, and deploys it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import (
    BuildError,
    ConfigError,
    ContainerError,
    CprError,
    PredictionError,
    RequestError,
    SourceError,
    StartError,
)
from cpr_kit.runtime.handler import Handler, PredictionHandler
from cpr_kit.runtime.predictor import Predictor
from cpr_kit.runtime.preprocessor import Preprocessor
from cpr_kit.version import __version__

if TYPE_CHECKING:
    from cpr_kit.compat.local_model import LocalModel
    from cpr_kit.contract import ContainerSpec
    from cpr_kit.deploy.predict.client import RegionalClient
    from cpr_kit.emulator.program import emulate
    from cpr_kit.harness.endpoint import LocalEndpoint
    from cpr_kit.runtime.frameworks.catboost import CatboostPredictor
    from cpr_kit.runtime.frameworks.lightgbm import LightgbmPredictor
    from cpr_kit.runtime.frameworks.onnx import OnnxPredictor
    from cpr_kit.runtime.frameworks.sklearn import SklearnPredictor
    from cpr_kit.runtime.frameworks.xgboost import XgboostPredictor
    from cpr_kit.runtime.images import ImagePreprocessor
    from cpr_kit.runtime.mounting import create_app
    from cpr_kit.runtime.serializer import DefaultSerializer, Serializer

__all__ = [
    "BuildError",
    "CatboostPredictor",
    "ConfigError",
    "ContainerError",
    "ContainerSpec",
    "CprError",
    "DefaultSerializer",
    "Handler",
    "ImagePreprocessor",
    "LightgbmPredictor",
    "LocalEndpoint",
    "LocalModel",
    "OnnxPredictor",
    "PredictionError",
    "PredictionHandler",
    "Predictor",
    "Preprocessor",
    "RegionalClient",
    "RequestError",
    "Serializer",
    "SklearnPredictor",
    "SourceError",
    "StartError",
    "XgboostPredictor",
    "__version__",
    "create_app",
    "emulate",
]

# What needs a library beyond the standard one, or a room that a container has no use for, is imported when asked for.
_LAZY = {
    "CatboostPredictor": "cpr_kit.runtime.frameworks.catboost",
    "LightgbmPredictor": "cpr_kit.runtime.frameworks.lightgbm",
    "OnnxPredictor": "cpr_kit.runtime.frameworks.onnx",
    "SklearnPredictor": "cpr_kit.runtime.frameworks.sklearn",
    "XgboostPredictor": "cpr_kit.runtime.frameworks.xgboost",
    "ContainerSpec": "cpr_kit.contract",
    "DefaultSerializer": "cpr_kit.runtime.serializer",
    "ImagePreprocessor": "cpr_kit.runtime.images",
    "LocalEndpoint": "cpr_kit.harness.endpoint",
    "LocalModel": "cpr_kit.compat.local_model",
    "RegionalClient": "cpr_kit.deploy.predict.client",
    "Serializer": "cpr_kit.runtime.serializer",
    "create_app": "cpr_kit.runtime.mounting",
    "emulate": "cpr_kit.emulator.program",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
