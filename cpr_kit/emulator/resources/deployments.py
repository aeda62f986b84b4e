"""Models at endpoints: deploy, undeploy, mutate (EndpointService)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import Callable
from typing import Any

from cpr_kit.emulator import masks, names, permissions
from cpr_kit.emulator.errors import (
    ApiError,
    already_exists,
    failed_precondition,
    invalid_argument,
    not_found,
    permission_denied,
)
from cpr_kit.emulator.fleet import Fleet, deployment_of, started
from cpr_kit.emulator.messages import (
    DeployedModel,
    DeployModelOperationMetadata,
    DeployModelRequest,
    DeployModelResponse,
    MutateDeployedModelOperationMetadata,
    MutateDeployedModelRequest,
    MutateDeployedModelResponse,
    UndeployModelOperationMetadata,
    UndeployModelRequest,
    UndeployModelResponse,
)
from cpr_kit.emulator.operations import Commit, Job, Operation
from cpr_kit.emulator.quotas import Quotas
from cpr_kit.emulator.resources import versions
from cpr_kit.emulator.resources.endpoints import Endpoints, check_split, kind
from cpr_kit.emulator.resources.state import State, now
from cpr_kit.emulator.serving.deployed import DeployedContainer
from cpr_kit.emulator.threads import apart

NEW = "0"
"""Stands for the model that is being deployed (DeployModelRequest.traffic_split)."""
MUTABLE = {
    "dedicated_resources.min_replica_count",
    "dedicated_resources.max_replica_count",
    "dedicated_resources.required_replica_count",
    "dedicated_resources.autoscaling_metric_specs",
    "disable_container_logging",
}
MACHINE = re.compile(r"(e2|n1|n2|n2d|n4|c2|c2d|c3|c3d|c4|m1|m3|t2d|g2|g4|a2|a3|a4|a4x|ct5lp|ct6e|tpu7x)-[a-z0-9-]+")
"""The families of machines that serve (Configure compute resources for inference)."""
_MAX_REPLICAS = 100


class Deployments:
    """`own_url` gives the address of the emulator itself, where it stands for a private network."""

    def __init__(self, state: State, endpoints: Endpoints, fleet: Fleet, own_url: Callable[[], str]) -> None:
        self._state = state
        self._own_url = own_url
        self._endpoints = endpoints
        self._fleet = fleet
        self.calls: dict[str, Callable[[Any], Any]] = {
            "EndpointService.DeployModel": self.deploy,
            "EndpointService.UndeployModel": self.undeploy,
            "EndpointService.MutateDeployedModel": self.mutate,
        }
        operations = state.operations
        operations.register("DeployModel", DeployModelRequest, self._deploy)
        operations.register("UndeployModel", UndeployModelRequest, self._undeploy)
        operations.register("MutateDeployedModel", MutateDeployedModelRequest, self._mutate)

    # Deploy

    def deploy(self, request: Any) -> Operation:
        endpoint = self._endpoints.find(request.endpoint)
        model = versions.find(self._state, self._state.name(request.deployed_model.model, "models"))
        if model.name.partition("/models/")[0] != endpoint.name.partition("/endpoints/")[0]:
            raise invalid_argument(f"{model.name} and {endpoint.name} are not in the same project and location.")
        versions.check_servable(model)
        _check_resources(request.deployed_model)
        self._check_kind(endpoint, model)
        self._check_account(request.deployed_model.service_account)
        identity = self._new_id(endpoint, request.deployed_model.id)
        check_split(_split(request, identity), {each.id for each in endpoint.deployed_models} | {identity})
        self._check_quota(endpoint.name, request.deployed_model)
        plan = {"endpoint": endpoint.name, "id": identity, "model": model.name, "version": model.version_id}
        return self._state.operations.start("DeployModel", endpoint.name, request, plan, DeployModelOperationMetadata())

    def _check_account(self, email: str) -> None:
        """Who deploys with an account of the user's own must be allowed to act as it (DeployedModel.service_account)"""
        if email and permissions.ACT_AS in self._state.settings.denied_permissions:
            raise permission_denied(
                f"You do not have permission to act as service_account: {email}. (or the resource may not exist)."
            )

    def _check_quota(self, endpoint: str, deployed: Any) -> None:
        name = self._state.name(endpoint)
        there = self._state.endpoints.under(f"{name.parent}/endpoints/")
        others = [each.dedicated_resources for other in there for each in other.deployed_models]
        coming = self._state.operations.requests("DeployModel")
        others += [
            each.deployed_model.dedicated_resources
            for each in coming
            if self._state.name(each.endpoint).parent == name.parent
        ]
        Quotas(self._state.settings.quotas).check(deployed.dedicated_resources, others, name.location)

    def _new_id(self, endpoint: Any, given: str) -> str:
        identity = given or names.new_id()
        if given:
            names.check_id("deployed_model.id", given, names.DEPLOYED_MODEL_ID)
        moving = self._state.operations.running("DeployModel", "UndeployModel")
        coming = {plan["id"] for plan in moving if plan["endpoint"] == endpoint.name}
        if identity in coming | {each.id for each in endpoint.deployed_models}:
            raise already_exists(f"The DeployedModel {identity} already exists at the Endpoint {endpoint.name}.")
        return identity

    def _check_kind(self, endpoint: Any, model: Any) -> None:
        its_kind = kind(endpoint)
        coming = any(plan["endpoint"] == endpoint.name for plan in self._state.operations.running("DeployModel"))
        if its_kind == "psa" and (endpoint.deployed_models or coming):
            raise failed_precondition(
                f"The Endpoint {endpoint.name} is private with VPC peering: only one model may be deployed to it."
            )
        if model.container_spec.invoke_route_prefix and its_kind != "dedicated":
            raise failed_precondition(
                f"The Model {model.name} has invoke_route_prefix; it deploys to dedicated endpoints only."
            )

    async def _deploy(self, job: Job) -> Commit:
        plan = job.plan
        deployed = _new(job.request.deployed_model, plan)
        model = self._state.versions.get(f"{plan['model']}@{plan['version']}")
        if model is None:
            raise not_found(f"The Model {plan['model']}@{plan['version']} does not exist.")
        deployed.display_name = deployed.display_name or model.display_name
        resources = deployed.dedicated_resources
        container = self._fleet.make(
            model,
            deployment_of(plan["endpoint"], deployed),
            replicas=resources.min_replica_count,
            required=resources.required_replica_count or resources.min_replica_count,
            logged=not deployed.disable_container_logging,
        )
        await started(container)

        def commit() -> Any:
            # The container is the endpoint's once that is in the state for good, and nobody's if it does not get there.
            store = self._state.store
            store.afterwards(
                done=functools.partial(self._fleet.attach, plan["endpoint"], deployed.id, container),
                undone=functools.partial(_stop_later, container),
            )
            endpoint = self._endpoints.find(plan["endpoint"])
            self._add(endpoint, deployed, _split(job.request, deployed.id), container)
            return DeployModelResponse(deployed_model=_find(endpoint, deployed.id))

        return commit

    def _add(self, endpoint: Any, deployed: Any, split: dict[str, int], container: DeployedContainer) -> None:
        deployed.create_time.CopyFrom(now())
        deployed.status.available_replica_count = container.ready_replicas
        endpoint.deployed_models.append(deployed)
        self._address(endpoint)
        if split:
            check_split(split, {each.id for each in endpoint.deployed_models})
            _set(endpoint, split)
        self._endpoints.keep(endpoint)

    def _address(self, endpoint: Any) -> None:
        """Where a model in a private network is asked (PrivateEndpoints)."""
        if kind(endpoint) == "psc":
            name = self._state.name(endpoint.name)
            attachment = f"projects/{name.project}/regions/{name.location}/serviceAttachments/endpoint-{name.id}"
            endpoint.private_service_connect_config.service_attachment = attachment
            for deployed in endpoint.deployed_models:
                deployed.private_endpoints.service_attachment = attachment
        if kind(endpoint) != "psa":
            return
        for deployed in endpoint.deployed_models:
            # Not http://E.aiplatform.googleapis.com/v1/...: the SDK asks it past every proxy.
            uri = f"{self._own_url()}/private/{endpoint.name}/v1/models/{deployed.id}"
            deployed.private_endpoints.predict_http_uri = f"{uri}:predict"
            deployed.private_endpoints.health_http_uri = uri

    def readdress(self) -> None:
        """After a restart the emulator itself is elsewhere."""
        for endpoint in self._state.endpoints.under(""):
            if endpoint.network:
                self._address(endpoint)
                self._endpoints.keep(endpoint)

    # Undeploy

    def undeploy(self, request: Any) -> Operation:
        endpoint = self._endpoints.find(request.endpoint)
        deployed = _find(endpoint, request.deployed_model_id)
        plan = {"endpoint": endpoint.name, "id": deployed.id}
        if plan in self._state.operations.running("UndeployModel"):
            raise failed_precondition(f"The DeployedModel {deployed.id} is being undeployed already.")
        _take_away(endpoint, deployed, dict(request.traffic_split))
        return self._state.operations.start(
            "UndeployModel", endpoint.name, request, plan, UndeployModelOperationMetadata()
        )

    async def _undeploy(self, job: Job) -> Commit:
        """It gets no request from the first step on; the rest of the work is to let it finish those it has."""
        name, identity = job.plan["endpoint"], job.plan["id"]
        endpoint = self._state.endpoints.get(name)
        deployed = next((each for each in endpoint.deployed_models if each.id == identity), None) if endpoint else None
        if deployed is not None:
            _take_away(endpoint, deployed, dict(job.request.traffic_split))
            self._endpoints.keep(endpoint)
        await self._fleet.remove(name, identity)
        response: Commit = UndeployModelResponse
        return response

    # Mutate

    def mutate(self, request: Any) -> Operation:
        endpoint = self._endpoints.find(request.endpoint)
        deployed = _find(endpoint, request.deployed_model.id)
        _mutated(deployed, request)
        plan = {"endpoint": endpoint.name, "id": deployed.id}
        return self._state.operations.start(
            "MutateDeployedModel", endpoint.name, request, plan, MutateDeployedModelOperationMetadata()
        )

    async def _mutate(self, job: Job) -> Commit:
        endpoint = self._endpoints.find(job.plan["endpoint"])
        deployed = _find(endpoint, job.plan["id"])
        _mutated(deployed, job.request)
        container = await self._fleet.restored(endpoint.name, deployed.id)
        wanted = min(deployed.dedicated_resources.min_replica_count, self._state.settings.max_replicas)
        if container is not None:
            await _scaled(container, wanted, self._state.settings.drain_s)

        def commit() -> Any:
            endpoint = self._endpoints.find(job.plan["endpoint"])
            deployed = _find(endpoint, job.plan["id"])
            _mutated(deployed, job.request)
            if container is not None:
                deployed.status.available_replica_count = container.ready_replicas
            self._endpoints.keep(endpoint)
            return MutateDeployedModelResponse(deployed_model=deployed)

        return commit


async def _scaled(container: DeployedContainer, replicas: int, grace_s: float) -> None:
    """Cancelled, it leaves the number as it was, unless all is done but the drain."""
    scaling = apart(container.scale, replicas, grace_s)
    try:
        await asyncio.shield(scaling)
    except asyncio.CancelledError:
        container.give_up_scaling()
        with contextlib.suppress(ApiError):
            await scaling
            return
        raise


_stopping: set[asyncio.Future[None]] = set()


def _stop_later(container: DeployedContainer) -> None:
    stop = asyncio.ensure_future(asyncio.to_thread(container.stop, 0.0))
    _stopping.add(stop)
    stop.add_done_callback(_stopping.discard)


def _take_away(endpoint: Any, deployed: Any, split: dict[str, int]) -> None:
    """One deployed model of an endpoint, with the split that is left (UndeployModelRequest.traffic_split)."""
    left = {each.id for each in endpoint.deployed_models if each.id != deployed.id}
    if not left:
        split = {}
    elif not split:
        split = dict(endpoint.traffic_split)
        if split.get(deployed.id):
            raise failed_precondition(
                f"The DeployedModel {deployed.id} has {split[deployed.id]}% of the traffic; "
                "give a traffic_split that takes it away."
            )
    if not split.get(deployed.id):
        split.pop(deployed.id, None)
    check_split(split, left)
    endpoint.deployed_models.remove(deployed)
    _set(endpoint, split)


def _new(given: Any, plan: Any) -> Any:
    deployed = DeployedModel()
    deployed.CopyFrom(given)
    deployed.id, deployed.model, deployed.model_version_id = plan["id"], plan["model"], plan["version"]
    resources = deployed.dedicated_resources
    resources.max_replica_count = resources.max_replica_count or resources.min_replica_count
    for field in ("private_endpoints", "status", "create_time"):  # output only
        deployed.ClearField(field)
    return deployed


def _split(request: Any, identity: str) -> dict[str, int]:
    return {identity if key == NEW else key: share for key, share in request.traffic_split.items()}


def _set(endpoint: Any, split: dict[str, int]) -> None:
    endpoint.traffic_split.clear()
    endpoint.traffic_split.update(split)


def _find(endpoint: Any, identity: str) -> Any:
    for deployed in endpoint.deployed_models:
        if deployed.id == identity:
            return deployed
    raise not_found(f"The DeployedModel {identity or '(no id)'} is not at the Endpoint {endpoint.name}.")


def _mutated(deployed: Any, request: Any) -> None:
    masks.apply(deployed, request.deployed_model, request.update_mask, allowed=MUTABLE)
    _check_counts(deployed.dedicated_resources)


def _check_resources(deployed: Any) -> None:
    """What a custom container may be deployed with (DeployedModel, DedicatedResources)."""
    if deployed.shared_resources:
        raise failed_precondition(
            "shared_resources: a DeploymentResourcePool takes models of prebuilt TensorFlow and PyTorch containers; "
            "a custom container needs dedicated_resources."
        )
    if not deployed.HasField("dedicated_resources"):
        what = "automatic_resources are" if deployed.HasField("automatic_resources") else "no resources are"
        raise invalid_argument(f"{what} given; a model with a custom container needs dedicated_resources.")
    machine = deployed.dedicated_resources.machine_spec
    if not MACHINE.fullmatch(machine.machine_type):
        raise invalid_argument(
            f'dedicated_resources.machine_spec.machine_type is "{machine.machine_type}"; it must be a machine type '
            "for inference, such as n1-standard-4."
        )
    if machine.accelerator_count and not machine.accelerator_type:
        raise invalid_argument("machine_spec has an accelerator_count but no accelerator_type.")
    _check_counts(deployed.dedicated_resources)


def _check_counts(resources: Any) -> None:
    least, most, required = resources.min_replica_count, resources.max_replica_count, resources.required_replica_count
    if least < 1:
        raise invalid_argument(f"min_replica_count is {least}; it must be at least 1.")
    if most and most < least:
        raise invalid_argument(f"max_replica_count is {most}; it may not be less than min_replica_count, {least}.")
    if required < 0 or required > least:
        raise invalid_argument(f"required_replica_count is {required}; it must be 1 to min_replica_count, {least}.")
    if max(least, most) > _MAX_REPLICAS:
        raise invalid_argument(f"{max(least, most)} replicas are more than the quota of {_MAX_REPLICAS}.")
