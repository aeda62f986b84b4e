"""The arguments of `LocalModel.from_dockerfile`, over what the folder's cpr.toml says, as a `Config`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cpr_kit.config import Config


@dataclass(frozen=True, kw_only=True)
class OwnDockerfile:
    folder: str | os.PathLike[str]
    dockerfile: str | None = None
    image: str | None = None
    predict_route: str | None = None
    health_route: str | None = None
    ports: Sequence[int] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    artifacts: str | None = None
    platform: str | None = None

    def config(self) -> Config:
        """Raises ConfigError for a folder that is none, or a cpr.toml that cannot be read."""
        read = Config.read(Path(self.folder).expanduser().resolve())
        image = replace(
            read.image,
            name=self.image or read.image.name,
            dockerfile=self.dockerfile or read.image.dockerfile or "Dockerfile",
            predict_route=self.predict_route or read.image.predict_route,
            health_route=self.health_route or read.image.health_route,
            ports=tuple(self.ports) or read.image.ports,
            env={**read.image.env, **self.env},
            command=tuple(self.command) or read.image.command,
            args=tuple(self.args) or read.image.args,
            platform=self.platform or read.image.platform,
        )
        return replace(read, model=replace(read.model, artifacts=self.artifacts or read.model.artifacts), image=image)
