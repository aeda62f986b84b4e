"""The arguments of `build_cpr_model`, upstream's names for what cpr.toml says, as a `Config`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cpr_kit.config import Config
from cpr_kit.errors import SourceError
from cpr_kit.runtime.handler import PredictionHandler

ClassName = type[Any] | str
"""A class whose file lies in the source folder, or `module:Class`."""

_READY_MADE = ("cpr_kit.", "google.cloud.aiplatform.")
"""Packages of the image whose classes may be served as they are."""
_UPSTREAM_HANDLER = ("google.cloud.aiplatform.prediction.handler", "PredictionHandler")


@dataclass(frozen=True, kw_only=True)
class CprArguments:
    src_dir: str | os.PathLike[str]
    output_image_uri: str
    predictor: ClassName | None = None
    handler: ClassName | None = PredictionHandler
    preprocessor: ClassName | None = None
    base_image: str = "python:3.10"
    requirements_path: str | os.PathLike[str] | None = None
    extra_packages: Sequence[str | os.PathLike[str]] = ()
    platform: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[int] = ()

    def config(self) -> Config:
        """What the folder's cpr.toml says, overridden by what was given. Raises ValueError as upstream does."""
        if self.handler is None:
            raise ValueError("A handler must be provided but handler is None.")
        folder = Path(self.src_dir).expanduser().resolve()
        read = Config.read(folder)
        model = replace(
            read.model,
            predictor=_name(self.predictor, folder) or read.model.predictor,
            handler=_name(self.handler, folder) or read.model.handler,
            preprocessor=_name(self.preprocessor, folder) or read.model.preprocessor,
            requirements=_path(self.requirements_path) or read.model.requirements,
            extra_packages=tuple(map(str, map(_path, self.extra_packages))) or read.model.extra_packages,
        )
        if model.predictor is None and model.handler is None:
            raise ValueError("PredictionHandler must have a predictor class but predictor is None.")
        image = replace(
            read.image,
            name=self.output_image_uri,
            base=self.base_image,
            dockerfile=None,
            platform=self.platform or read.image.platform,
            env={**read.image.env, **self.env},
            ports=tuple(self.ports) or read.image.ports,
        )
        return replace(read, model=model, image=image)


def class_name(cls: type[Any], folder: Path) -> str:
    """`module:Class` as the container will import it. Raises SourceError when its file is not in `folder`."""
    if cls.__module__.startswith(_READY_MADE):
        return f"{cls.__module__}:{cls.__qualname__}"
    try:
        file = Path(inspect.getsourcefile(cls) or "").resolve()
    except (TypeError, OSError) as error:
        raise SourceError(folder, f"{cls.__name__} has no source file; write the class into a file there") from error
    if not file.is_relative_to(folder):
        raise SourceError(file, f'the file implementing "{cls.__name__}" must be in "{folder}"')
    if "." in cls.__qualname__:
        raise SourceError(file, f"{cls.__qualname__} is not at the top level of its module; move it there")
    parts = file.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) + f":{cls.__name__}"


def _name(cls: ClassName | None, folder: Path) -> str | None:
    if cls is None or isinstance(cls, str):
        return cls
    if cls is PredictionHandler or (cls.__module__, cls.__name__) == _UPSTREAM_HANDLER:
        return None
    return class_name(cls, folder)


def _path(path: str | os.PathLike[str] | None) -> str | None:
    return str(Path(path).expanduser().resolve()) if path is not None else None
