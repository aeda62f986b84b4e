"""cpr.toml, CPR_* variables and flags -> one frozen `Config`.

Flags win over the environment, the environment over the file, the file over the defaults. The variable
for key `base` of section `[image]` is CPR_IMAGE_BASE, and so on for every plain key.
"""

from __future__ import annotations

import difflib
import os
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cpr_kit.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "cpr.toml"


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """What is served. Classes are written `module:Class`; paths are relative to cpr.toml."""

    predictor: str | None = None
    preprocessor: str | None = None
    handler: str | None = None
    artifacts: str | None = None
    requirements: str | None = None
    extra_packages: tuple[str, ...] = ()
    trusted: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageSection:
    """How the image is made. `dockerfile` names the user's own Dockerfile; then `template` has no say."""

    name: str | None = None
    base: str = "python:3.11-slim"
    template: str = "python"
    dockerfile: str | None = None
    platform: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = (8080,)


@dataclass(frozen=True, kw_only=True)
class CheckSection:
    """One request of the project, and the response it expects; both are files."""

    request: str
    expect: str | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a folder says about itself. `folder` is where cpr.toml lies, or would lie."""

    folder: Path
    model: ModelSection = field(default_factory=ModelSection)
    image: ImageSection = field(default_factory=ImageSection)
    checks: tuple[CheckSection, ...] = ()

    @property
    def artifact_uri(self) -> str | None:
        """The artifacts as an absolute path, or the gs:// URI; None where cpr.toml names none."""
        named = self.model.artifacts
        return named if named is None or named.startswith("gs://") else str(self.folder / named)

    @classmethod
    def read(cls, folder: Path, environ: Mapping[str, str] = os.environ) -> Config:
        """Read `folder`/cpr.toml, if there is one, and the environment. Raises ConfigError."""
        if not folder.is_dir():
            raise ConfigError(f"{folder} is not a folder")
        path = folder / FILE
        table = _toml(path) if path.exists() else {}
        for name in table:
            _known(name, ("model", "image", "check"), f"{path}: section")
        config = cls(
            folder=folder,
            model=_section(ModelSection, table.get("model", {}), f"{path}: [model]"),
            image=_section(ImageSection, table.get("image", {}), f"{path}: [image]"),
            checks=tuple(_section(CheckSection, row, f"{path}: [[check]]") for row in _rows(table)),
        )
        return replace(
            config,
            model=_overridden(config.model, "CPR_MODEL_", environ),
            image=_overridden(config.image, "CPR_IMAGE_", environ),
        )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _rows(table: dict[str, Any]) -> list[Any]:
    rows = table.get("check", [])
    if not isinstance(rows, list):
        raise ConfigError(f"check is {rows!r}; each request is a [[check]] section")
    return rows


def _known(name: str, names: typing.Iterable[str], where: str) -> None:
    names = tuple(names)
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(names)}"
        raise ConfigError(f'{where} "{name}" is unknown{hint}')


def _section(cls: type[Any], table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is not a table")
    kinds = typing.get_type_hints(cls)
    values = {}
    for key, value in table.items():
        _known(key, kinds, f"{where}: key")
        values[key] = _value(value, kinds[key], f"{where} {key}")
    required = [f.name for f in fields(cls) if f.name not in values and f.name == "request"]
    if required:
        raise ConfigError(f"{where}: {required[0]} is missing")
    return cls(**values)


def _value(value: Any, kind: Any, where: str) -> Any:
    """Check one TOML value against the type of its field."""
    if kind == Mapping[str, str]:
        if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
            return dict(value)
        raise ConfigError(f"{where} is {value!r}; it is a table of strings")
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if isinstance(value, list) and all(type(entry) is item for entry in value):
            return tuple(value)
        raise ConfigError(f"{where} is {value!r}; it is a list of {item.__name__}")
    plain = bool if kind is bool else str
    if type(value) is not plain:
        raise ConfigError(f"{where} is {value!r}; it is {'true or false' if plain is bool else 'a string'}")
    return value


def _overridden(section: Any, prefix: str, environ: Mapping[str, str]) -> Any:
    kinds = typing.get_type_hints(type(section))
    changes: dict[str, Any] = {}
    for key, kind in kinds.items():
        text = environ.get(prefix + key.upper())
        if text is None or kind == Mapping[str, str] or (not text and kind is str):
            continue
        changes[key] = _from_text(text, kind, prefix + key.upper())
    return replace(section, **changes)


def _from_text(text: str, kind: Any, name: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ConfigError(f'{name} is "{text}"; it is true or false')
        return text.lower() in ("true", "1")
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        try:
            return tuple(item(part) for part in text.split(",") if part)
        except ValueError as error:
            raise ConfigError(f'{name} is "{text}"; it is a comma-separated list of {item.__name__}') from error
    return text or None
