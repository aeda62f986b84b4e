"""NVIDIA Triton as the container: its specification from the name of the model that is asked.

Values of vertex-ai-samples: SDK_Triton_PyTorch_Local_Prediction (one model by its own routes), and the Triton ensemble
sample (Vertex AI's routes, a default model, others by the header `REDIRECT`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cpr_kit.contract import ContainerSpec
from cpr_kit.errors import SpecError

IMAGE = "nvcr.io/nvidia/tritonserver:21.08-py3"
PORT = 8000
PROGRAM = "tritonserver"
REPOSITORY = "--model-repository=$(AIP_STORAGE_URI)"
REDIRECT = "x-vertex-ai-triton-redirect"
"""A request's header with the route it is meant for, such as `v2/models/NAME/infer`, in place of the default model."""

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_SHOWN = 6


def spec(
    model: str,
    *,
    image: str = IMAGE,
    port: int = PORT,
    args: Sequence[str] = (),
    shared_memory_mb: int | None = None,
) -> ContainerSpec:
    """One model by its own routes. Raises SpecError.

    >>> spec("pytorch").predict_route
    '/v2/models/pytorch/infer'
    """
    _check_name(model)
    return ContainerSpec(
        image_uri=image,
        args=(PROGRAM, REPOSITORY, *_added(args)),
        ports=(port,),
        predict_route=f"/v2/models/{model}/infer",
        health_route=f"/v2/models/{model}",
        shared_memory_size_mb=shared_memory_mb,
    )


def redirecting(
    default_model: str,
    *,
    image: str = IMAGE,
    strict: bool = True,
    args: Sequence[str] = (),
    shared_memory_mb: int | None = None,
) -> ContainerSpec:
    """All models of a repository at Vertex AI's own routes and port: the default one, or what `REDIRECT` names."""
    _check_name(default_model)
    return ContainerSpec(
        image_uri=image,
        args=(
            PROGRAM,
            REPOSITORY,
            f"--vertex-ai-default-model={default_model}",
            f"--strict-model-config={'true' if strict else 'false'}",
            *_added(args),
        ),
        shared_memory_size_mb=shared_memory_mb,
    )


def check_repository(folder: str, model: str) -> None:
    """Raises SpecError for a model that the repository does not have; what is at gs:// is not looked at."""
    if folder.startswith("gs://"):
        return
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise SpecError(f"{folder} is {'a file' if path.exists() else 'not there'}; name the folder of the models")
    if not (path / model).is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.is_dir())
        shown = ", ".join(inside[:_SHOWN]) or "no folder"
        hint = f"; {path} is one model, so name the folder above it: {path.parent}" if path.name == model else ""
        raise SpecError(f'the repository {path} has no model "{model}"; it has {shown}{hint}')
    if not any(each.name.isascii() and each.name.isdecimal() for each in (path / model).iterdir() if each.is_dir()):
        raise SpecError(
            f"the model {path / model} has no version, which is a folder with a number as its name; make {model}/1"
        )


def _added(args: Sequence[str]) -> tuple[str, ...]:
    for each in args:
        if each.partition("=")[0] in {"--model-repository", "--vertex-ai-default-model", "--strict-model-config"}:
            raise SpecError(f"{each} is derived here; leave it out of args")
    return tuple(args)


def _check_name(model: str) -> None:
    if not _NAME.fullmatch(model):
        raise SpecError(f'the model is named "{model}"; the name is part of a route: letters, digits, "_", "-" and "."')
