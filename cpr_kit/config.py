"""cpr.toml, CPR_* variables and flags -> one frozen `Config`.

Flags win over the environment, the environment over the file, the file over the defaults. The variable
for key `base` of section `[image]` is CPR_IMAGE_BASE, and so on for every plain key.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from cpr_kit.config_values import known, overridden, section, shown
from cpr_kit.contract import DIGEST, EndpointKind
from cpr_kit.deploy_config import DeploySection
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
    bake: str | None = None  # a folder with the model, which is then part of the image
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
            raise ConfigError(f"[serve] warmup is {shown(self.warmup)}; a file's name has no comma")

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
    deploy: DeploySection = field(default_factory=DeploySection)
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
        table = toml(path) if path.exists() else {}
        for name in table:
            known(name, ("model", "image", "serve", "deploy", "check"), f"{path}: section")
        config = cls(
            folder=folder,
            model=section(ModelSection, table.get("model", {}), f"{path}: [model]"),
            image=section(ImageSection, table.get("image", {}), f"{path}: [image]"),
            serve=section(ServeSection, table.get("serve", {}), f"{path}: [serve]"),
            deploy=DeploySection.read(table.get("deploy", {}), f"{path}: [deploy]"),
            checks=tuple(section(CheckSection, row, f"{path}: [[check]]") for row in _rows(table)),
        )
        return replace(
            config,
            model=overridden(config.model, "CPR_MODEL_", environ),
            image=overridden(config.image, "CPR_IMAGE_", environ),
            serve=overridden(config.serve, "CPR_SERVE_", environ),
            deploy=config.deploy.overridden(environ),
        )


def toml(path: Path) -> dict[str, Any]:
    """What a cpr.toml says, as it is written there. Raises ConfigError."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _rows(table: dict[str, Any]) -> list[Any]:
    rows = table.get("check", [])
    if not isinstance(rows, list):
        raise ConfigError(f"check is {shown(rows)}; each request is a [[check]] section")
    return rows
