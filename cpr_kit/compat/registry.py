"""What upstream's `LocalModel` does with registries."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

from cpr_kit.engine import choose, registry
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.errors import EngineUnavailable

if TYPE_CHECKING:
    from cpr_kit.compat.local_model import LocalModel
    from cpr_kit.engine.protocol import Engine


class RegistryNames:
    """Upstream's names; credentials are those of `docker login`, or of a docker credential helper."""

    _engine: Engine | None

    def push_image(self) -> str:
        """Push to the registry that the name begins with; the digest there. Raises ValueError without a registry.

        Under `cpr emulate` without a registry the image stays in the engine, the process engine too: its id.
        """
        reference = cast("LocalModel", self).spec.image_uri
        host = reference.partition("/")[0]
        if "/" not in reference or not ("." in host or ":" in host or host == "localhost"):
            wanted = "The image uri must begin with a registry, as us-central1-docker.pkg.dev/..."
            raise ValueError(f'{wanted}, but it is: "{reference}".')
        if self._is_kept(reference):
            return registry.kept(self._any().image(reference), reference)
        return self._docker().push(reference, _silent)

    def copy_image(self, dst_image_uri: str) -> LocalModel:
        """The same image under a second name; a LocalModel of that one."""
        model = cast("LocalModel", self)
        self.pull_image_if_not_exists()
        self._docker().tag(model.spec.image_uri, dst_image_uri)
        spec = dataclasses.replace(model.spec, image_uri=dst_image_uri)
        return type(model)(spec, engine=self._engine, artifact_uri=model.artifact_uri)

    def pull_image_if_not_exists(self) -> None:
        """Pull the image where this machine's engine does not have it."""
        reference = cast("LocalModel", self).spec.image_uri
        if self._is_kept(reference):
            registry.kept(self._any().image(reference), reference)
            return
        engine = self._docker()
        if engine.image(reference) is None:
            engine.pull(reference, _silent)

    @staticmethod
    def _is_kept(reference: str) -> bool:
        return registry.emulated(reference) == registry.ENGINE

    def _any(self) -> Engine:
        return self._engine or choose.choose().engine

    def _docker(self) -> DockerEngine:
        engine = self._any()
        if not isinstance(engine, DockerEngine):
            raise EngineUnavailable("only a container engine has images that a registry takes; start Docker")
        return engine


def _silent(_line: str) -> None:
    pass
