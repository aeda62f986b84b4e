"""NVIDIA Triton as the container: its specification from the name of the model that is asked.

Values of vertex-ai-samples: SDK_Triton_PyTorch_Local_Prediction (one model by its own routes), and the Triton ensemble
sample (Vertex AI's routes, a default model, others by the header `REDIRECT`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cpr_kit.contract import ContainerSpec
from cpr_kit.errors import SpecError

IMAGE = "nvcr.io/nvidia/tritonserver:21.08-py3"
PORT = 8000
PROGRAM = "tritonserver"
REPOSITORY = "--model-repository=$(AIP_STORAGE_URI)"
REDIRECT = "x-vertex-ai-triton-redirect"
"""A request's header with the route it is meant for, such as `v2/models/NAME/infer`, in place of the default model."""

_DEFAULT = "--vertex-ai-default-model"
_STRICT = "--strict-model-config"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_SHOWN = 6


def spec(
    model: str,
    *,
    image: str = IMAGE,
    port: int = PORT,
    among_others: bool = False,
    args: Sequence[str] = (),
    shared_memory_mb: int | None = None,
) -> ContainerSpec:
    """One model by its own routes. Raises SpecError.

    `among_others` is for a repository of several: with Vertex AI's variables around it, Triton serves one model at the
    predict route, whatever that is, and has to be told which; else its start ends with "Expect the model repository
    contains only a single model if default model is not specified".

    >>> spec("pytorch").predict_route
    '/v2/models/pytorch/infer'
    """
    _check_name(model)
    default = f"{_DEFAULT}={model}"
    # Of a repository at gs:// only its author knows how many models it has.
    others = _added(each for each in args if each != default)
    told = (default,) if among_others or default in args else ()
    return ContainerSpec(
        image_uri=image,
        args=(PROGRAM, REPOSITORY, *told, *others),
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
            f"{_DEFAULT}={default_model}",
            f"{_STRICT}={'true' if strict else 'false'}",
            *_added(args, _STRICT),
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
        shown = ", ".join(models(folder)[:_SHOWN]) or "no folder"
        hint = f"; {path} is one model, so name the folder above it: {path.parent}" if path.name == model else ""
        raise SpecError(f'the repository {path} has no model "{model}"; it has {shown}{hint}')
    if not any(each.name.isascii() and each.name.isdecimal() for each in (path / model).iterdir() if each.is_dir()):
        raise SpecError(
            f"the model {path / model} has no version, which is a folder with a number as its name; make {model}/1"
        )


def models(folder: str) -> list[str]:
    """The models of a repository, which are its folders; of one at gs:// nothing is known."""
    if folder.startswith("gs://"):
        return []
    return sorted(each.name for each in Path(folder).expanduser().resolve().iterdir() if each.is_dir())


def _added(args: Iterable[str], *derived: str) -> tuple[str, ...]:
    found = tuple(args)
    for each in found:
        if each.partition("=")[0] in {"--model-repository", _DEFAULT, *derived}:
            raise SpecError(f"{each} is derived here; leave it out of args")
    return found


def _check_name(model: str) -> None:
    if not _NAME.fullmatch(model):
        raise SpecError(f'the model is named "{model}"; the name is part of a route: letters, digits, "_", "-" and "."')
