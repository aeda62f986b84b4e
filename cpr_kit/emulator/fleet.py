"""The containers behind the endpoints: started for a deployment, found for a request, stopped with drain."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cpr_kit.contract import Deployment
from cpr_kit.emulator.errors import ApiError
from cpr_kit.emulator.journal import Journal, Source
from cpr_kit.emulator.predict.target import DeployedModel, Endpoint
from cpr_kit.emulator.registry import Registry
from cpr_kit.emulator.resources import containers, endpoints, versions
from cpr_kit.emulator.resources.models import managed_uri
from cpr_kit.emulator.resources.state import State
from cpr_kit.emulator.serving.deployed import DeployedContainer
from cpr_kit.emulator.serving.launching import Placement
from cpr_kit.emulator.threads import apart
from cpr_kit.engine.protocol import Engine

_DEFAULT_TIMEOUT_S = 600.0
_FIXED_TIMEOUT_S = 60.0


@dataclass
class Fleet:
    """`environment` is what containers get beside AIP_*: where the storage and the metadata server are."""

    state: State
    engine: Engine
    logs: Path
    environment: Mapping[str, str]
    report: Callable[[str], None]
    images: Registry
    journal: Journal = field(default_factory=Journal)
    _containers: dict[tuple[str, str], DeployedContainer] = field(default_factory=dict)
    _targets: dict[str, Endpoint | None] = field(default_factory=dict)
    _restoring: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict)
    _removing: set[asyncio.Task[None]] = field(default_factory=set)

    def image_id(self, reference: str) -> str:
        """What an upload takes of an image. Raises FAILED_PRECONDITION when it is nowhere."""
        return self.images.ingest(reference)

    def make(
        self, model: Any, deployment: Deployment, *, replicas: int, required: int, logged: bool = True
    ) -> DeployedContainer:
        """A deployed model's containers, not started yet. `model` is a version of the registry, or has no name.

        `logged`: what they write is at Cloud Logging too (DeployedModel.disable_container_logging).
        """
        spec = containers.read(model.container_spec)
        if not self.state.settings.liveness_probe:
            spec = replace(spec, liveness_probe=None)
        if model.name:
            plan = {"model": model.name, "version": model.version_id}
            uri = managed_uri(self.state, plan) if model.artifact_uri else ""
            deployment = replace(deployment, storage_uri=uri, project_number=self.state.name(model.name).project)
        placement = Placement(
            spec=spec,
            deployment=deployment,
            display_name=model.display_name,
            replicas=min(replicas, self.state.settings.max_replicas),
            required=min(required, self.state.settings.max_replicas),
            timeout_s=spec.deployment_timeout_s or self.state.settings.deployment_timeout_s,
            extra_env=self._environment(deployment.project_number),
            logs=self.logs,
            said=self._recorder(model.name, deployment) if logged else _unheard,
        )
        ingested = self.state.store.value(f"image of {model.name}@{model.version_id}")

        def resolve(reference: str) -> str:
            return self.images.resolve(reference, ingested)

        return DeployedContainer(placement, self.engine, report=self.report, resolve=resolve)

    def _environment(self, number: str) -> dict[str, str]:
        project = {"GOOGLE_CLOUD_PROJECT": self.state.projects.id(number)}
        return {**(project if self.state.settings.google_cloud_project else {}), **self.environment}

    def attach(self, endpoint: str, deployed_model: str, container: DeployedContainer) -> None:
        self._containers[endpoint, deployed_model] = container
        self.changed(endpoint)

    def _recorder(self, model: str, deployment: Deployment) -> Callable[[int, str], None]:
        if not deployment.endpoint_id or not model:  # a batch job's, whose log is another resource's
            return _unheard
        source = Source(
            project=deployment.project_number,
            location=self.state.name(model).location,
            endpoint=deployment.endpoint_id,
            deployed_model=deployment.deployed_model_id,
        )
        return functools.partial(self.journal.add, source)

    async def remove(self, endpoint: str, deployed_model: str) -> None:
        """Let it finish the requests it has, and end it; once begun it goes on, whatever becomes of the caller."""
        self.changed(endpoint)
        task = asyncio.get_running_loop().create_task(self._remove((endpoint, deployed_model)))
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)
        await asyncio.shield(task)

    async def _remove(self, key: tuple[str, str]) -> None:
        if key in self._restoring:
            self._restoring[key].cancel()
            await asyncio.wait({self._restoring[key]})
        container = self._containers.pop(key, None)
        self.changed(key[0])
        if container is not None:
            await asyncio.to_thread(container.stop, self.state.settings.drain_s)

    async def restored(self, endpoint: str, deployed_model: str) -> DeployedContainer | None:
        """The container, waited for where it is being started again."""
        if (task := self._restoring.get((endpoint, deployed_model))) is not None:
            await asyncio.wait({task})
        return self.get(endpoint, deployed_model)

    def get(self, endpoint: str, deployed_model: str) -> DeployedContainer | None:
        return self._containers.get((endpoint, deployed_model))

    def __iter__(self) -> Iterator[DeployedContainer]:
        return iter(self._containers.values())

    def changed(self, endpoint: str) -> None:
        self._targets.pop(endpoint, None)

    def target(self, name: str) -> Endpoint | None:
        """What the data path needs to know of an endpoint; None when there is no such one."""
        if name not in self._targets:
            self._targets[name] = self._target(name)
        return self._targets[name]

    def _target(self, name: str) -> Endpoint | None:
        found = self.state.endpoints.get(name)
        if found is None:
            return None
        kind = endpoints.kind(found)
        given = found.client_connection_config.inference_timeout.ToTimedelta().total_seconds()
        longer = given or _DEFAULT_TIMEOUT_S
        return Endpoint(
            name=name,
            kind=kind,
            timeout_s=longer if kind in ("dedicated", "psc") else _FIXED_TIMEOUT_S,
            traffic=dict(found.traffic_split),
            models={model.id: self._deployed(name, model) for model in found.deployed_models},
        )

    def _deployed(self, endpoint: str, deployed: Any) -> DeployedModel:
        model = self.state.versions.get(f"{deployed.model}@{deployed.model_version_id}")
        return DeployedModel(
            id=deployed.id,
            model=deployed.model,
            version=deployed.model_version_id,
            display_name=model.display_name if model else "",
            container=self.get(endpoint, deployed.id),
            min_replicas=deployed.dedicated_resources.min_replica_count,
            invoke=bool(model and model.container_spec.invoke_route_prefix),
            grpc=bool(model and model.container_spec.grpc_ports),
            explanation=deployed.HasField("explanation_spec") or bool(model and model.HasField("explanation_spec")),
        )

    def restore(self) -> None:
        """Start again what the state says is deployed; one that does not start stays without container."""
        for endpoint in self.state.endpoints.under(""):
            for deployed in endpoint.deployed_models:
                key = endpoint.name, deployed.id
                task = asyncio.get_running_loop().create_task(self._start_again(endpoint, deployed))
                self._restoring[key] = task
                task.add_done_callback(functools.partial(self._is_restored, key))

    def _is_restored(self, key: tuple[str, str], _: asyncio.Task[None]) -> None:
        del self._restoring[key]

    async def _start_again(self, endpoint: Any, deployed: Any) -> None:
        name = self.state.name(f"{deployed.model}@{deployed.model_version_id}", "models")
        try:
            model = versions.find(self.state, name)
            container = self.make(
                model,
                deployment_of(endpoint.name, deployed),
                replicas=deployed.dedicated_resources.min_replica_count,
                required=1,
                logged=not deployed.disable_container_logging,
            )
            await started(container)
        except ApiError as error:
            self.report(f"{endpoint.name}: {deployed.display_name} does not start again: {error}")
        except Exception:  # noqa: BLE001 - the others are started all the same
            self.report(f"the emulator failed to start {deployed.display_name} again:\n{traceback.format_exc()}")
        else:
            self.attach(endpoint.name, deployed.id, container)

    async def close(self) -> None:
        for task in self._restoring.values():
            task.cancel()
        await asyncio.gather(*self._restoring.values(), *self._removing, return_exceptions=True)
        stops = [asyncio.to_thread(container.stop, 0.0) for container in self._containers.values()]
        await asyncio.gather(*stops, return_exceptions=True)
        self._containers.clear()


async def started(container: DeployedContainer) -> None:
    """Start it; cancelled, this leaves no container behind."""
    start = apart(container.start)
    try:
        await asyncio.shield(start)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.to_thread(container.stop, 0.0))
        with contextlib.suppress(Exception):
            await start
        raise


def _unheard(_number: int, _line: str) -> None:
    """Where a line goes that only the log's file has."""


def deployment_of(endpoint: str, deployed: Any) -> Deployment:
    """Where a deployed model's container believes it is."""
    where = Deployment(endpoint_id=endpoint.rpartition("/")[2], deployed_model_id=deployed.id)
    return on_machine(where, deployed.dedicated_resources.machine_spec)


def on_machine(deployment: Deployment, machine: Any) -> Deployment:
    """The same on what a MachineSpec describes."""
    accelerator = type(machine).DESCRIPTOR.fields_by_name["accelerator_type"].enum_type
    kind = accelerator.values_by_number.get(machine.accelerator_type)
    return replace(
        deployment,
        machine_type=machine.machine_type,
        accelerator_type=kind.name if kind is not None and machine.accelerator_type else None,
    )
