"""`LocalModel` with the names and signatures of google.cloud.aiplatform.prediction, over build and harness."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpr_kit import container_message
from cpr_kit.build import image
from cpr_kit.compat.cpr_config import ClassName, CprArguments
from cpr_kit.compat.early import EarlyNames
from cpr_kit.compat.own_dockerfile import OwnDockerfile
from cpr_kit.compat.registry import RegistryNames
from cpr_kit.compat.servers import ServerNames
from cpr_kit.config import Config
from cpr_kit.contract import ContainerSpec, Probe
from cpr_kit.engine import choose
from cpr_kit.engine.protocol import Engine, Gpus
from cpr_kit.harness.endpoint import READY_INTERVAL_S, READY_TIMEOUT_S, LocalEndpoint
from cpr_kit.runtime.handler import PredictionHandler

_GPU_CAPABILITIES = (("utility", "compute"),)
_ALL_GPUS = -1


class LocalModel(EarlyNames, RegistryNames, ServerNames):
    """An image and how to start it. `spec` is the kit's own form, `serving_container_spec` Google's.

    >>> model = LocalModel.build("iris/")
    >>> with model.deploy_to_local_endpoint() as endpoint:
    ...     endpoint.predict(instances=[[6.7, 3.1, 4.7, 1.5]])
    """

    def __init__(  # upstream's signature, and two of ours
        self,
        serving_container_spec: Any = None,
        serving_container_image_uri: str | None = None,
        serving_container_predict_route: str | None = None,
        serving_container_health_route: str | None = None,
        serving_container_command: Sequence[str] | None = None,
        serving_container_args: Sequence[str] | None = None,
        serving_container_environment_variables: Mapping[str, str] | None = None,
        serving_container_ports: Sequence[int] | None = None,
        serving_container_grpc_ports: Sequence[int] | None = None,
        serving_container_deployment_timeout: int | None = None,
        serving_container_shared_memory_size_mb: int | None = None,
        serving_container_startup_probe_exec: Sequence[str] | None = None,
        serving_container_startup_probe_period_seconds: int | None = None,
        serving_container_startup_probe_timeout_seconds: int | None = None,
        serving_container_health_probe_exec: Sequence[str] | None = None,
        serving_container_health_probe_period_seconds: int | None = None,
        serving_container_health_probe_timeout_seconds: int | None = None,
        *,
        engine: Engine | None = None,
        artifact_uri: str | None = None,
    ) -> None:
        self.artifact_uri = artifact_uri
        self._engine = engine
        self._message: Any = None
        if isinstance(serving_container_spec, str):  # LocalModel("image")
            serving_container_spec, serving_container_image_uri = None, serving_container_spec
        if serving_container_spec is not None:
            self._take(serving_container_spec)
            return
        if not serving_container_image_uri:
            raise ValueError("Serving container image uri is required to initialize a LocalModel instance.")
        environment = serving_container_environment_variables or {}
        self.spec = ContainerSpec(
            image_uri=serving_container_image_uri,
            command=tuple(serving_container_command or ()),
            args=tuple(serving_container_args or ()),
            env={str(name): str(value) for name, value in environment.items()},
            ports=tuple(serving_container_ports or ()),
            grpc_ports=tuple(serving_container_grpc_ports or ()),
            predict_route=serving_container_predict_route,
            health_route=serving_container_health_route,
            shared_memory_size_mb=serving_container_shared_memory_size_mb,
            deployment_timeout_s=serving_container_deployment_timeout,
            startup_probe=_probe(
                "startup",
                serving_container_startup_probe_exec,
                serving_container_startup_probe_period_seconds,
                serving_container_startup_probe_timeout_seconds,
            ),
            health_probe=_probe(
                "health",
                serving_container_health_probe_exec,
                serving_container_health_probe_period_seconds,
                serving_container_health_probe_timeout_seconds,
            ),
        )

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str],
        *,
        engine: Engine | None = None,
        tag: str | None = None,
        no_cache: bool = False,
    ) -> LocalModel:
        """Build the project in `folder` as its cpr.toml says; its artifacts are what gets served by default."""
        return cls._built(Config.read(Path(folder).expanduser().resolve()), engine, tag, no_cache)

    @classmethod
    def build_cpr_model(
        cls,
        src_dir: str | os.PathLike[str],
        output_image_uri: str,
        predictor: ClassName | None = None,
        handler: ClassName | None = PredictionHandler,
        base_image: str = "python:3.10",
        requirements_path: str | os.PathLike[str] | None = None,
        extra_packages: Sequence[str | os.PathLike[str]] | None = None,
        no_cache: bool = False,
        platform: str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        ports: Sequence[int] | None = None,
        preprocessor: ClassName | None = None,
        engine: Engine | None = None,
    ) -> LocalModel:
        """Upstream's build. Classes may also be written `module:Class`; env and ports reach the image and the spec."""
        arguments = CprArguments(
            src_dir=src_dir,
            output_image_uri=output_image_uri,
            predictor=predictor,
            handler=handler,
            preprocessor=preprocessor,
            base_image=base_image,
            requirements_path=requirements_path,
            extra_packages=extra_packages or (),
            platform=platform,
            env=env or {},
            ports=ports or (),
        )
        return cls._built(arguments.config(), engine, output_image_uri, no_cache)

    @classmethod
    def from_dockerfile(
        cls,
        folder: str | os.PathLike[str],
        dockerfile: str | None = None,
        image: str | None = None,
        *,
        predict_route: str | None = None,
        health_route: str | None = None,
        ports: Sequence[int] | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
        args: Sequence[str] | None = None,
        artifacts: str | None = None,
        platform: str | None = None,
        no_cache: bool = False,
        engine: Engine | None = None,
    ) -> LocalModel:
        """Build a Dockerfile of your own. What is not given is as cpr.toml says, the port else as EXPOSE says."""
        own = OwnDockerfile(
            folder=folder,
            dockerfile=dockerfile,
            image=image,
            predict_route=predict_route,
            health_route=health_route,
            ports=ports or (),
            env=env or {},
            command=command or (),
            args=args or (),
            artifacts=artifacts,
            platform=platform,
        )
        return cls._built(own.config(), engine, image, no_cache)

    @property
    def serving_container_spec(self) -> Any:
        return self.get_serving_container_spec()

    def get_serving_container_spec(self) -> Any:
        """Google's ModelContainerSpec message. Raises MissingExtra without google-cloud-aiplatform."""
        if self._message is None:
            self._message = container_message.write(self.spec)
        return self._message

    def deploy_to_local_endpoint(
        self,
        artifact_uri: str | os.PathLike[str] | None = None,
        credential_path: str | os.PathLike[str] | None = None,
        host_port: str | int | None = None,
        gpu_count: int | None = None,
        gpu_device_ids: Sequence[str] | None = None,
        gpu_capabilities: Sequence[Sequence[str]] | None = None,
        container_ready_timeout: float | None = None,
        container_ready_check_interval: float | None = None,
    ) -> LocalEndpoint:
        """An endpoint that serves from its `serve()`, or inside a `with` block."""
        artifacts = artifact_uri or self.artifact_uri
        return self.endpoint_class(
            self.spec_here(artifacts),
            self._engine,
            artifact_uri=artifacts,
            credential_path=credential_path,
            host_port=None if host_port is None else int(host_port),
            gpus=_gpus(gpu_count, gpu_device_ids, gpu_capabilities),
            ready_timeout_s=container_ready_timeout or READY_TIMEOUT_S,
            ready_interval_s=container_ready_check_interval or READY_INTERVAL_S,
        )

    @classmethod
    def _built(cls, config: Config, engine: Engine | None, tag: str | None, no_cache: bool) -> LocalModel:
        engine = engine or choose.choose().engine
        spec = image.build(config, engine, tag=tag, no_cache=no_cache)
        return cls(spec, engine=engine, artifact_uri=_artifacts(config))

    def _take(self, spec: Any) -> None:
        if not spec.image_uri:
            raise ValueError(
                "Image uri is required for the serving container spec to initialize a LocalModel instance."
            )
        if isinstance(spec, ContainerSpec):
            self.spec = spec
        else:
            self._message, self.spec = spec, container_message.read(spec)


def _artifacts(config: Config) -> str | None:
    artifacts = config.model.artifacts
    if artifacts is None or artifacts.startswith("gs://"):
        return artifacts
    return str(config.folder / artifacts)


def _probe(kind: str, command: Sequence[str] | None, period_s: float | None, timeout_s: float | None) -> Probe | None:
    if command:
        return Probe(exec=tuple(command), period_s=period_s or 10.0, timeout_s=timeout_s or 1.0)
    if period_s or timeout_s:
        raise ValueError(f"serving_container_{kind}_probe_exec is missing; without it the {kind} probe asks nothing.")
    return None


def _gpus(
    count: int | None, device_ids: Sequence[str] | None, capabilities: Sequence[Sequence[str]] | None
) -> Gpus | None:
    """Upstream's defaults: all GPUs when only capabilities are given, utility and compute when they are not."""
    if count and device_ids:
        raise ValueError("At most one gpu_count or gpu_device_ids can be set but both are set.")
    if not (count or device_ids or capabilities):
        return None
    return Gpus(
        count=count or (None if device_ids else _ALL_GPUS),
        device_ids=tuple(device_ids or ()),
        capabilities=tuple(map(tuple, capabilities or _GPU_CAPABILITIES)),
    )
