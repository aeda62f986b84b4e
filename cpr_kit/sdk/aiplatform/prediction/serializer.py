"""Stands for google.cloud.aiplatform.prediction.serializer."""

from cpr_kit.runtime.serializer import DefaultSerializer, Serializer

__all__ = ["DefaultSerializer", "Serializer"]
