"""cpr.toml, CPR_* variables and flags -> one frozen `Config`.

Flags win over the environment, the environment over the file, the file over the defaults. The variable
for key `base` of section `[image]` is CPR_IMAGE_BASE, and so on for every plain key.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from cpr_kit.contract import DIGEST, EndpointKind
from cpr_kit.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "cpr.toml"
_PORTS = (8080,)
_PLATFORM = re.compile(r"linux/[a-z0-9_-]+(/[a-z0-9.]+)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """What is served. Classes are written `module:Class`; paths are relative to cpr.toml.

    `app` is an ASGI application of the user's own, `module:name`, in place of predictor, handler and preprocessor.
    """

    predictor: str | None = None
    preprocessor: str | None = None
    handler: str | None = None
    app: str | None = None
    artifacts: str | None = None
    requirements: str | None = None
    extra_packages: tuple[str, ...] = ()
    trusted: bool = False
    trusted_digests: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for digest in self.trusted_digests:
            if not DIGEST.fullmatch(digest):
                raise ConfigError(
                    f'[model] trusted_digests (CPR_MODEL_TRUSTED_DIGESTS) has "{digest}"; '
                    'each is "sha256:" and 64 lower-case hexadecimal digits, as sha256sum prints them'
                )


@dataclass(frozen=True, kw_only=True)
class ImageSection:
    """How the image is made. `dockerfile` names the user's own Dockerfile; then `template` has no say.

    From `command` on: what an image with a server of its own is started with, and how it is asked.
    """

    name: str | None = None
    base: str = "python:3.11-slim"
    template: str = "python"
    dockerfile: str | None = None
    platform: str = "linux/amd64"  # what Vertex AI runs, whatever this machine is
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = _PORTS
    sdk: bool = False  # google-cloud-aiplatform is in the image even where the kit has all that the code uses of it
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    predict_route: str | None = None
    health_route: str | None = None
    shared_memory_mb: int | None = None

    def __post_init__(self) -> None:
        if not _PLATFORM.fullmatch(self.platform):
            raise ConfigError(
                f'[image] platform (CPR_IMAGE_PLATFORM, --platform) is "{self.platform}"; '
                "it is written linux/amd64, or linux/arm64"
            )

    @property
    def names_ports(self) -> bool:
        """Whether anyone named ports; if not, an image with a server of its own may say its port with EXPOSE."""
        return self.ports is not _PORTS


@dataclass(frozen=True, kw_only=True)
class ServeSection:
    """How the container serves: counts, seconds, bytes. None leaves it to the server, or to the predictor."""

    workers: int | Literal["auto"] = "auto"
    max_batch_rows: int | None = None
    max_batch_delay: float = 0.0
    request_timeout: float = 60.0
    max_queue: int | None = None
    endpoint_kind: EndpointKind = "public"
    max_body: int | None = None
    warmup: tuple[str, ...] = ()
    metrics: bool = False
    log_format: Literal["json", "text"] | None = None

    def __post_init__(self) -> None:
        if not self.request_timeout:
            raise ConfigError("[serve] request_timeout (CPR_SERVE_REQUEST_TIMEOUT) is 0; it is more than 0 seconds")
        if any("," in path for path in self.warmup):
            raise ConfigError(f"[serve] warmup is {list(self.warmup)!r}; a file's name has no comma")

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        return {each.name: each.default for each in fields(cls)}


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
    serve: ServeSection = field(default_factory=ServeSection)
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
            _known(name, ("model", "image", "serve", "check"), f"{path}: section")
        config = cls(
            folder=folder,
            model=_section(ModelSection, table.get("model", {}), f"{path}: [model]"),
            image=_section(ImageSection, table.get("image", {}), f"{path}: [image]"),
            serve=_section(ServeSection, table.get("serve", {}), f"{path}: [serve]"),
            checks=tuple(_section(CheckSection, row, f"{path}: [[check]]") for row in _rows(table)),
        )
        return replace(
            config,
            model=_overridden(config.model, "CPR_MODEL_", environ),
            image=_overridden(config.image, "CPR_IMAGE_", environ),
            serve=_overridden(config.serve, "CPR_SERVE_", environ),
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
    if _measures(kind):
        return _measured(value, kind, where)
    plain = bool if kind is bool else str
    if type(value) is not plain:
        raise ConfigError(f"{where} is {value!r}; it is {'true or false' if plain is bool else 'a string'}")
    return value


def _overridden(section: Any, prefix: str, environ: Mapping[str, str]) -> Any:
    kinds = typing.get_type_hints(type(section))
    changes: dict[str, Any] = {}
    for key, kind in kinds.items():
        text = environ.get(prefix + key.upper())
        if text is None or kind == Mapping[str, str] or (not text and (kind is str or _measures(kind))):
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
    return _measured(text, kind, name) if _measures(kind) else text or None


def _measures(kind: Any) -> bool:
    """Whether it is a number or a choice of words: int, float, Literal, or a union of them."""
    return any(each in (int, float) or typing.get_origin(each) is Literal for each in _kinds(kind))


def _measured(value: Any, kind: Any, where: str) -> Any:
    """A count from 1 up, a number from 0 up, or one of the words. Text is read in variables, and beside words."""
    kinds, is_variable = _kinds(kind), where.startswith("CPR_")
    words = [word for each in kinds for word in typing.get_args(each)]
    if isinstance(value, str) and value in words:
        return value
    number = _number(value, int if int in kinds else float) if is_variable or words else value
    if int in kinds and type(number) is int and number >= 1:
        return number
    if float in kinds and type(number) in (int, float) and 0 <= number <= sys.float_info.max:
        return float(number)
    described = [f'"{word}"' for word in words]
    described += ["a whole number from 1 up"] * (int in kinds) + ["a number from 0 up"] * (float in kinds)
    raise ConfigError(f"{where} is {_shown(value, is_variable)}; it is {' or '.join(described)}")


def _number(value: Any, kind: type[int | float]) -> Any:
    try:
        return kind(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _shown(value: Any, is_variable: bool) -> str:
    return f'"{value}"' if is_variable else repr(value)


def _kinds(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)
