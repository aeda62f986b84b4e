"""Stands for google.cloud.aiplatform.utils.prediction_utils."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cpr_kit.contract import DEFAULT_PORT
from cpr_kit.sdk.download import download_model_artifacts

__all__ = [
    "download_model_artifacts",
    "get_prediction_aip_http_port",
    "inspect_source_from_class",
    "is_extension_allowed",
    "is_registry_uri",
]

_REGISTRY = re.compile(r"(?:[\w-]+-docker\.pkg\.dev|(?:[\w-]+\.)?gcr\.io)(?:/|\Z)")


def inspect_source_from_class(custom_class: type[Any], src_dir: str) -> tuple[str, str]:
    """Module, as seen from the folder, and name of a class. Raises ValueError when its file is not in the folder."""
    folder = Path(src_dir).expanduser().resolve()
    file = Path(inspect.getsourcefile(custom_class) or "").resolve()
    if not file.is_relative_to(folder):
        raise ValueError(f'The file implementing "{custom_class.__name__}" must be in "{src_dir}"; it is {file}.')
    parts = file.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts), custom_class.__name__


def is_registry_uri(image_uri: str) -> bool:
    """Whether the image is in Artifact Registry or Container Registry."""
    return _REGISTRY.match(image_uri) is not None


def get_prediction_aip_http_port(serving_container_ports: Sequence[int] | None = None) -> int:
    """The port that gets the traffic: the first of a model's, or 8080."""
    return serving_container_ports[0] if serving_container_ports else DEFAULT_PORT


def is_extension_allowed(filename: str, allowed_extensions: Iterable[str] | None) -> bool:
    """Whether the file's name ends in one of them; where none are given, any name will do."""
    return allowed_extensions is None or filename.endswith(tuple(allowed_extensions))
