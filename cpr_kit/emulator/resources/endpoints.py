"""Endpoints of all four kinds (EndpointService), without what is deployed at them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty

from cpr_kit.contract import EndpointKind
from cpr_kit.emulator import listing, masks, names
from cpr_kit.emulator.errors import (
    already_exists,
    failed_precondition,
    invalid_argument,
    not_found,
    resource_exhausted,
)
from cpr_kit.emulator.messages import (
    CreateEndpointOperationMetadata,
    CreateEndpointRequest,
    DeleteEndpointRequest,
    DeleteOperationMetadata,
    Endpoint,
    ListEndpointsResponse,
    UpdateEndpointLongRunningRequest,
    UpdateEndpointOperationMetadata,
)
from cpr_kit.emulator.operations import Commit, Job, Operation
from cpr_kit.emulator.resources.state import State, check_etag, etag, now

MUTABLE = {"display_name", "description", "labels", "traffic_split", "predict_request_response_logging_config"}
_OUTPUT_ONLY = ("dedicated_endpoint_dns", "model_deployment_monitoring_job", "satisfies_pzs", "satisfies_pzi")
"""Fields that only the service fills in; a caller's are passed over (AIP-203)."""
_NOT_COMPARED = {"name", "client_connection_config", "etag", "create_time", "update_time", *_OUTPUT_ONLY}
_NETWORK = re.compile(r"projects/[0-9]+/global/networks/[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_FULL = 100
_LONGEST_S = 3600
_MAX_ALLOWLISTS = 10


def kind(endpoint: Any) -> EndpointKind:
    """Which of the four kinds an endpoint is (Choose an endpoint type)."""
    if endpoint.network:
        return "psa"
    if endpoint.enable_private_service_connect or endpoint.HasField("private_service_connect_config"):
        return "psc"
    return "dedicated" if endpoint.dedicated_endpoint_enabled else "public"


def dedicated_dns(endpoint: Any, location: str, project: str) -> str:
    return f"{endpoint.name.rpartition('/')[2]}.{location}-{project}.prediction.vertexai.goog"


def check_split(split: dict[str, int], ids: set[str]) -> None:
    """Empty, or 100 in all, over models that are deployed (Endpoint.traffic_split)."""
    unknown = sorted(split.keys() - ids)
    if unknown:
        raise invalid_argument(f"traffic_split names {', '.join(unknown)}, which is not deployed at the endpoint.")
    if any(not 0 <= share <= _FULL for share in split.values()) or (split and sum(split.values()) != _FULL):
        raise invalid_argument(f"traffic_split must add up to 100, it is {split}.")


class Endpoints:
    """`changed` is called with the name of each endpoint that was changed or removed."""

    def __init__(self, state: State, changed: Callable[[str], None]) -> None:
        self._state = state
        self._changed = changed
        self.calls: dict[str, Callable[[Any], Any]] = {
            "EndpointService.CreateEndpoint": self.create,
            "EndpointService.GetEndpoint": self.get,
            "EndpointService.ListEndpoints": self.list,
            "EndpointService.UpdateEndpoint": self.update,
            "EndpointService.UpdateEndpointLongRunning": self.update_slowly,
            "EndpointService.DeleteEndpoint": self.delete,
        }
        operations = state.operations
        operations.register("CreateEndpoint", CreateEndpointRequest, self._create)
        operations.register("UpdateEndpointLongRunning", UpdateEndpointLongRunningRequest, self._update)
        operations.register("DeleteEndpoint", DeleteEndpointRequest, self._delete)

    def create(self, request: Any) -> Operation:
        parent = self._state.name(request.parent)
        if request.endpoint_id:
            names.check_id("endpoint_id", request.endpoint_id, names.ENDPOINT_ID)
        _check_new(request.endpoint)
        self._check_allowlists(request.endpoint, parent.parent)
        name = f"{parent.parent}/endpoints/{request.endpoint_id or names.new_id()}"
        taken = any(plan["endpoint"] == name for plan in self._state.operations.running("CreateEndpoint"))
        if taken or name in self._state.endpoints:
            raise already_exists(f"The Endpoint {name} already exists.")
        plan = {"endpoint": name}
        return self._state.operations.start("CreateEndpoint", name, request, plan, CreateEndpointOperationMetadata())

    async def _create(self, job: Job) -> Commit:
        def commit() -> Any:
            name = self._state.name(job.plan["endpoint"])
            endpoint = Endpoint()
            endpoint.CopyFrom(job.request.endpoint)
            for field in _OUTPUT_ONLY:
                endpoint.ClearField(field)
            if endpoint.HasField("private_service_connect_config"):
                endpoint.private_service_connect_config.ClearField("service_attachment")
            endpoint.name = str(name)
            endpoint.create_time.CopyFrom(now())
            if kind(endpoint) == "dedicated":
                endpoint.dedicated_endpoint_dns = dedicated_dns(endpoint, name.location, name.project)
            return self.keep(endpoint)

        return commit

    def _check_allowlists(self, endpoint: Any, parent: str) -> None:
        """Not too many different lists of projects in one location (Use Private Service Connect endpoints)."""
        if kind(endpoint) != "psc":
            return
        lists = {
            frozenset(each.private_service_connect_config.project_allowlist)
            for each in (endpoint, *self._state.endpoints.under(f"{parent}/endpoints/"))
            if kind(each) == "psc"
        }
        if len(lists) > _MAX_ALLOWLISTS:
            raise resource_exhausted(
                f"The PSC endpoints of {parent} have {_MAX_ALLOWLISTS} different project_allowlists, which is the most "
                "there may be; give one of those."
            )

    def get(self, request: Any) -> Any:
        return self.find(request.name)

    def find(self, text: str) -> Any:
        name = self._state.name(text, "endpoints")
        endpoint = self._state.endpoints.get(str(name))
        if endpoint is None:
            raise not_found(f"The Endpoint {name} does not exist.")
        return endpoint

    def list(self, request: Any) -> Any:
        parent = self._state.name(request.parent)
        page, token = self._state.page(
            self._state.endpoints.under(f"{parent.parent}/endpoints/"), request, listing.ENDPOINTS, parent.parent
        )
        return ListEndpointsResponse(endpoints=page, next_page_token=token)

    def update(self, request: Any) -> Any:
        endpoint = self.find(request.endpoint.name)
        check_etag(self._state, request.endpoint.etag, (endpoint.etag,), endpoint.name)
        masks.apply(endpoint, request.endpoint, request.update_mask, allowed=MUTABLE)
        names.check_display_name(endpoint.display_name)
        names.check_labels(dict(endpoint.labels))
        check_split(dict(endpoint.traffic_split), {model.id for model in endpoint.deployed_models})
        return self.keep(endpoint)

    def update_slowly(self, request: Any) -> Operation:
        """The one field that only this call may change (UpdateEndpointLongRunningRequest)."""
        endpoint = self.find(request.endpoint.name)
        check_etag(self._state, request.endpoint.etag, (endpoint.etag,), endpoint.name)
        blocked = sorted(
            field.name
            for field, value in request.endpoint.ListFields()
            if field.name not in _NOT_COMPARED and value != getattr(endpoint, field.name)
        )
        if blocked:
            raise invalid_argument(
                f"UpdateEndpointLongRunning changes client_connection_config alone, not {', '.join(blocked)}; "
                "UpdateEndpoint changes the others."
            )
        _check_timeout(request.endpoint, kind(endpoint))
        plan = {"endpoint": endpoint.name}
        return self._state.operations.start(
            "UpdateEndpointLongRunning", endpoint.name, request, plan, UpdateEndpointOperationMetadata()
        )

    async def _update(self, job: Job) -> Commit:
        def commit() -> Any:
            endpoint = self.find(job.plan["endpoint"])
            if job.request.endpoint.HasField("client_connection_config"):
                endpoint.client_connection_config.CopyFrom(job.request.endpoint.client_connection_config)
            return self.keep(endpoint)

        return commit

    def delete(self, request: Any) -> Operation:
        endpoint = self.find(request.name)
        self._check_empty(endpoint)
        plan = {"endpoint": endpoint.name}
        return self._state.operations.start("DeleteEndpoint", endpoint.name, request, plan, DeleteOperationMetadata())

    async def _delete(self, job: Job) -> Commit:
        def commit() -> Empty:
            endpoint = self._state.endpoints.get(job.plan["endpoint"])
            if endpoint is not None:
                self._check_empty(endpoint)
                self._state.endpoints.delete(endpoint.name)
                self._changed(endpoint.name)
            return Empty()

        return commit

    def _check_empty(self, endpoint: Any) -> None:
        busy = any(plan["endpoint"] == endpoint.name for plan in self._state.operations.running("DeployModel"))
        if endpoint.deployed_models or busy:
            raise failed_precondition(
                f"The Endpoint {endpoint.name} has deployed or being-deployed DeployedModel(s); undeploy them first."
            )

    def keep(self, endpoint: Any) -> Any:
        endpoint.update_time.CopyFrom(now())
        endpoint.etag = etag(endpoint)
        self._state.endpoints.put(endpoint.name, endpoint)
        self._changed(endpoint.name)
        return endpoint


def _check_new(endpoint: Any) -> None:
    names.check_display_name(endpoint.display_name)
    names.check_labels(dict(endpoint.labels))
    if endpoint.traffic_split or endpoint.deployed_models:
        raise invalid_argument("A new endpoint has no deployed_models and no traffic_split; deploy models to it.")
    connected = endpoint.enable_private_service_connect or endpoint.HasField("private_service_connect_config")
    if endpoint.network and connected:
        raise invalid_argument("network and private_service_connect_config are mutually exclusive.")
    if (endpoint.network or connected) and endpoint.dedicated_endpoint_enabled:
        raise invalid_argument("dedicated_endpoint_enabled is for public endpoints; this one is private.")
    if endpoint.network and not _NETWORK.fullmatch(endpoint.network):
        raise invalid_argument(
            f'network is "{endpoint.network}"; it must be projects/PROJECT_NUMBER/global/networks/NETWORK.'
        )
    _check_timeout(endpoint, kind(endpoint))


def _check_timeout(endpoint: Any, its_kind: EndpointKind) -> None:
    if not endpoint.client_connection_config.HasField("inference_timeout"):
        return
    seconds = endpoint.client_connection_config.inference_timeout.ToTimedelta().total_seconds()
    if its_kind not in ("dedicated", "psc"):
        raise invalid_argument(f"inference_timeout is for dedicated and PSC endpoints; a {its_kind} one has 60 s.")
    if not 0 < seconds <= _LONGEST_S:
        raise invalid_argument(f"inference_timeout is {seconds:g} s; it may be {_LONGEST_S} s at most.")
