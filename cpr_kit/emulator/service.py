"""One implementation under both protocols: a call by name, its message in, its message out."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.cloud.location import locations_pb2
from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty

from cpr_kit.emulator import listing, names, permissions
from cpr_kit.emulator.calls import REPLICA
from cpr_kit.emulator.catalogue import Method
from cpr_kit.emulator.console import Call
from cpr_kit.emulator.errors import ApiError, failed_precondition, not_found, unimplemented
from cpr_kit.emulator.faults import FaultError, Faults
from cpr_kit.emulator.fleet import Fleet
from cpr_kit.emulator.predict.target import Endpoint
from cpr_kit.emulator.resources.state import State

_HOLD: contextvars.ContextVar[float] = contextvars.ContextVar("hold", default=0.0)
_RESOURCE_FIELDS = ("name", "endpoint", "parent", "source_model", "model", "batch_prediction_job")
_DEDICATED = ".prediction.vertexai.goog"
_PSC = ".prediction.p.vertexai.goog"
_SHARED = "aiplatform.googleapis.com"
_OWN_NAME = ("dedicated", "psc")
_ENDPOINT_ID = "x-vertex-ai-endpoint-id"


def hold() -> float:
    """How long the present call may wait for something to end, in seconds."""
    return _HOLD.get()


@dataclass
class Seen:
    """What the console says of a call; whoever answers it fills it in."""

    method: str
    resource: str
    status: str = "OK"
    message: str = ""
    fault: str = ""
    lost: FaultError | None = None
    """What the caller gets in place of the answer, once the call is done."""

    def lose(self) -> None:
        """Raises FaultError in place of an answer that is lost."""
        if self.lost is not None:
            raise self.lost

    def answered(self, status: int) -> None:
        """A container's own HTTP status, where that is the caller's too."""
        self.status = "OK" if status < 400 else str(status)  # noqa: PLR2004


@dataclass
class Service:
    """`show` gets each call once it is answered."""

    state: State
    fleet: Fleet
    faults: Faults
    calls: dict[str, Callable[[Any], Any]]
    show: Callable[[Call], None] | None = None
    _wall: Callable[[], dt.datetime] = field(default=lambda: dt.datetime.now(dt.timezone.utc))

    def __post_init__(self) -> None:
        self.calls = {**self.calls, **self._operations()}

    async def call(self, method: Method, request: Any, hold_s: float) -> Any:
        """The answer of one call that is not a prediction. Raises ApiError."""
        handler = self.calls.get(method.name)
        if handler is None:
            raise unimplemented(
                f"{method.name} is not served by the emulator, which has the calls of models, endpoints, predictions, "
                "batch prediction jobs and their operations."
            )
        token = _HOLD.set(hold_s)
        try:
            answer = handler(request)
            return await answer if inspect.isawaitable(answer) else answer
        finally:
            _HOLD.reset(token)

    def target(self, name: str, host: str = "") -> Endpoint:
        """The endpoint of a prediction. `host`, where it was asked, must be its kind's (Choose an endpoint type)."""
        plain = str(self.state.name(name, "endpoints"))
        endpoint = self.fleet.target(plain)
        if endpoint is None:
            raise not_found(f"The Endpoint {plain} does not exist.")
        if host:
            _check_host(endpoint, host.partition(":")[0])
        return endpoint

    def target_over_grpc(self, name: str, metadata: Mapping[str, str]) -> Endpoint:
        """The same over gRPC, where an endpoint with a name or an address of its own is meant by a call's metadata."""
        endpoint = self.target(name)
        if endpoint.kind in _OWN_NAME and metadata.get(_ENDPOINT_ID) != endpoint.id:
            raise _not_at_shared_host(endpoint, f"; over gRPC with the metadata {_ENDPOINT_ID}: {endpoint.id}")
        return endpoint

    @contextlib.contextmanager
    def seen(self, protocol: str, method: str, resource: str) -> Iterator[Seen]:
        """Around each call: its line on the console, whatever becomes of it."""
        started = time.perf_counter()
        seen = Seen(method, resource)
        try:
            yield seen
            seen.lose()
        except ApiError as error:
            seen.status, seen.message = error.code.name, error.message
            raise
        except Exception as error:
            seen.status, seen.message = "INTERNAL", f"{type(error).__name__}: {error}"
            raise
        finally:
            if self.show is not None:
                self.show(
                    Call(
                        time=self._wall(),
                        protocol=protocol,
                        method=seen.method,
                        resource=seen.resource,
                        status=seen.status,
                        milliseconds=(time.perf_counter() - started) * 1000,
                        message=seen.message,
                        fault=seen.fault,
                    )
                )

    async def strike(self, method: str, seen: Seen) -> None:
        """The fault that was asked for on this call, if any, and the refusal of a caller who may not make it."""
        try:
            fault = await self.faults.apply_before(method, names.location_of(seen.resource))
        except FaultError as error:
            seen.fault = str(error.fault)
            raise
        if fault is not None:
            seen.fault = str(fault)
            seen.lost = FaultError(fault) if fault.lost else None
        permissions.check(method, seen.resource, self.state.settings.denied_permissions)

    async def strike_replica(self, endpoint: Endpoint, seen: Seen) -> None:
        """A replica dies as a request comes for it, where that was asked for."""
        identities = sorted(endpoint.models, key=lambda each: -endpoint.traffic.get(each, 0))
        containers = (self.fleet.get(endpoint.name, identity) for identity in identities)
        # Asked before the fault is: it does not strike where nothing can die, and `choose` takes turns.
        container = next((each for each in containers if each is not None and each.ready_replicas), None)
        fault = self.faults.for_call(REPLICA, names.location_of(endpoint.name), able=container is not None)
        if fault is None or container is None:
            return
        seen.fault = str(fault)
        replica = container.choose()
        if replica is not None:
            await asyncio.to_thread(container.kill_replica, replica.number)

    # Long-running operations, which have a service of their own (google.longrunning.Operations)

    def _operations(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "Locations.GetLocation": self._get_location,
            "Locations.ListLocations": self._list_locations,
            "Operations.GetOperation": self._get_operation,
            "Operations.WaitOperation": self._wait_operation,
            "Operations.ListOperations": self._list_operations,
            "Operations.CancelOperation": self._cancel_operation,
            "Operations.DeleteOperation": self._delete_operation,
        }

    def _get_location(self, request: Any) -> Any:
        name = self.state.name(request.name)
        return locations_pb2.Location(name=name.parent, location_id=name.location)

    def _list_locations(self, _: Any) -> Any:
        """None by name: every location is here."""
        return locations_pb2.ListLocationsResponse()

    def operation_name(self, text: str) -> str:
        name = self.state.name(text)
        if "operations/" not in name.rest:
            raise not_found(f"The operation {text} is not found.")
        return str(name)

    async def _get_operation(self, request: Any) -> Any:
        return await self.state.operations.wait(self.operation_name(request.name), hold())

    async def _wait_operation(self, request: Any) -> Any:
        seconds = hold()
        if request.HasField("timeout"):
            seconds = min(seconds, request.timeout.ToTimedelta().total_seconds())
        return await self.state.operations.wait(self.operation_name(request.name), seconds)

    def _list_operations(self, request: Any) -> Any:
        resource = str(self.state.name(request.name.removesuffix("/operations")))
        page, token = self.state.page(self.state.operations.under(resource), request, listing.OPERATIONS, resource)
        return operations_pb2.ListOperationsResponse(operations=page, next_page_token=token)

    def _cancel_operation(self, request: Any) -> Empty:
        self.state.operations.cancel(self.operation_name(request.name))
        return Empty()

    def _delete_operation(self, request: Any) -> Empty:
        self.state.operations.delete(self.operation_name(request.name))
        return Empty()


def resource_of(request: Any) -> str:
    """What a call is about, for its line."""
    for name in _RESOURCE_FIELDS:
        if name in request.DESCRIPTOR.fields_by_name:
            value = getattr(request, name)
            text = value if isinstance(value, str) else getattr(value, "name", "")
            if text:
                return str(text)
    return ""


def _not_at_shared_host(endpoint: Endpoint, how: str = "") -> ApiError:
    """The service's own words are not documented."""
    if endpoint.kind == "psc":
        return failed_precondition(
            f"The Endpoint {endpoint.name} is a Private Service Connect one; it answers at your own network's address "
            f"for its service attachment alone{how}."
        )
    _, project, _, location, *_ = endpoint.name.split("/")
    return failed_precondition(
        f"The Endpoint {endpoint.name} is a dedicated one; it answers at its own name alone, "
        f"{endpoint.id}.{location}-{project}{_DEDICATED} (dedicatedEndpointDns){how}."
    )


def _check_host(endpoint: Endpoint, host: str) -> None:
    """A dedicated endpoint does not answer on the shared host, nor a shared one elsewhere."""
    shared = host == _SHARED or host.endswith(f"-{_SHARED}")
    if (endpoint.kind in _OWN_NAME and shared) or (endpoint.kind == "dedicated" and host.endswith(_PSC)):
        raise _not_at_shared_host(endpoint)
    if endpoint.kind == "public" and host.endswith((_DEDICATED, _PSC)):
        raise not_found(f"The Endpoint {endpoint.name} is a shared public one; it does not answer at {host}.")
    if host.endswith(_DEDICATED) and host.partition(".")[0] != endpoint.id:
        raise not_found(f"{host} is not the name of the Endpoint {endpoint.name}.")
