"""The parts of one emulator, made in their order: storage, state, containers, predictions, calls."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.emulator import front
from cpr_kit.emulator import grpc as grpc_server
from cpr_kit.emulator.catalogue import Catalogue
from cpr_kit.emulator.console import Call
from cpr_kit.emulator.errors import unavailable
from cpr_kit.emulator.faults import Faults
from cpr_kit.emulator.fleet import Fleet
from cpr_kit.emulator.operations import Operations
from cpr_kit.emulator.predict.calls import Predictions
from cpr_kit.emulator.predict.containers import Containers, Request, open_session
from cpr_kit.emulator.predict.target import DeployedModel
from cpr_kit.emulator.proxy import google
from cpr_kit.emulator.proxy.projects import Projects as ProjectsOverGrpc
from cpr_kit.emulator.registry import Registry
from cpr_kit.emulator.resources.deployments import Deployments
from cpr_kit.emulator.resources.endpoints import Endpoints, kind
from cpr_kit.emulator.resources.jobs import Jobs
from cpr_kit.emulator.resources.models import Models
from cpr_kit.emulator.resources.refused import Pools
from cpr_kit.emulator.resources.state import State
from cpr_kit.emulator.rest import Rest
from cpr_kit.emulator.service import Service, hold
from cpr_kit.emulator.serving.deployed import DeployedContainer
from cpr_kit.emulator.settings import Settings
from cpr_kit.emulator.storage.api import application as storage_application
from cpr_kit.emulator.storage.depot import Depot
from cpr_kit.emulator.store import Store
from cpr_kit.engine.protocol import Engine

if TYPE_CHECKING:
    from typing_extensions import Self

_SESSION = "session"
_MAX_BATCH_ANSWER = 2**30
_JSON = {"content-type": "application/json"}


class Parts:
    """An async context manager: whatever is open within is closed, in the other order, on leaving."""

    def __init__(
        self,
        *,
        engine: Engine,
        images: Registry,
        table: Awaitable[Catalogue],
        state: Path | None,
        folder: Path,
        logs: Path,
        settings: Settings,
        faults: Faults,
        project: str,
        container_address: str,
        plain_url: Callable[[], str],
        show: Callable[[Call], None] | None,
        note: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._images = images
        self._table = table
        self._path = state
        self._folder = folder
        self._logs = logs
        self._settings = settings
        self._faults = faults
        self._project = project
        self._container_address = container_address
        self._plain_url = plain_url
        self._show = show
        self._note = note
        self._closing = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._make(stack)
            self._closing = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    async def _make(self, stack: contextlib.AsyncExitStack) -> None:
        store = Store(self._path)
        stack.callback(store.close)
        stack.callback(store.delete_value, _SESSION)  # at an orderly end nothing is left to be removed
        depot = await asyncio.to_thread(self._open_depot)
        stack.callback(depot.close)
        operations = Operations(store, self._faults.apply_operation, self._note)
        self.state = State(store, depot, operations, self._settings)
        self.fleet = Fleet(
            self.state, self._engine, self._logs, self._container_environment(), self._note, self._images
        )
        stack.push_async_callback(self.fleet.close)
        session = open_session()
        stack.push_async_callback(session.close)
        self._containers = Containers(session, self._settings)
        predictions = Predictions(session, self._settings)
        self.endpoints = Endpoints(self.state, self.fleet.changed)
        self.jobs = Jobs(self.state, self.fleet, self._post, hold)
        self.deployments = Deployments(self.state, self.endpoints, self.fleet, self._plain_url)
        models, pools = Models(self.state, self.fleet.image_id, self.fleet.changed), Pools(self.state)
        calls: dict[str, Callable[[Any], Any]] = {}
        for part in (models, self.endpoints, self.deployments, self.jobs, pools):
            calls |= part.calls
        # Work ends before the containers and the state it works on.
        stack.push_async_callback(self.jobs.close)
        stack.push_async_callback(operations.close)
        service = Service(self.state, self.fleet, self._faults, calls, self._show)
        table = await self._table
        self._grpc = grpc_server.Handlers(service, predictions, table)
        self._fronts(service, Rest(service, predictions, table))

    def _fronts(self, service: Service, api: Rest) -> None:
        shared: dict[str, Any] = {
            "storage": storage_application(
                self.state.depot,
                number_of=lambda project: self.state.projects.number(project or self._project),
                denied=self._settings.denied_permissions,
            ),
            "google_hosts": google.application(
                self.state.projects.number,
                id_of=self.state.projects.id,
                project=self._project,
                settings=self._settings,
                journal=self.fleet.journal,
            ),
        }
        self.front = front.Front(
            service,
            api=api,
            admin=front.admin(service, self._about),
            also=self.is_private_address,
            private=self._private,
            **shared,
        )
        host = self._container_address.rpartition(":")[0]
        self.container_front = front.Front(service, also=lambda name: name == host, **shared)

    def _open_depot(self) -> Depot:
        if self._path is None:
            return Depot(self._folder / "storage")
        folder = self._path.with_name(f"{self._path.name}.storage")
        return Depot(folder / "objects", folder / "index.sqlite")

    def _container_environment(self) -> dict[str, str]:
        """A container reads gs:// and asks for its identity as on Vertex AI, only elsewhere.

        Google's C++ client, as in Triton, knows a storage under a name of its own, and reads files by the XML API
        unless told not to. TensorFlow's own reader of gs:// has Google's address in it, and no name for another.
        """
        if not self._container_address:
            return {}
        storage = f"http://{self._container_address}"
        metadata = dict.fromkeys(("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"), self._container_address)
        return {
            "STORAGE_EMULATOR_HOST": storage,
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": storage,
            "GOOGLE_CLOUD_CPP_STORAGE_REST_CONFIG": "disable-xml",
            **metadata,
        }

    async def _post(self, container: DeployedContainer, body: bytes) -> tuple[int, bytes]:
        """One request of a batch job, which has a time-out of its own around this."""
        model = DeployedModel(id="", model="", version="", display_name="", container=container)
        timeout_s = self._settings.batch_retry_elapsed_s
        reply = await self._containers.ask(Request(model=model, body=body, headers=_JSON, timeout_s=timeout_s))
        try:
            return reply.status, await reply.read(_MAX_BATCH_ANSWER, unavailable("The answer is too large."))
        finally:
            reply.close()

    @contextlib.asynccontextmanager
    async def grpc_server(self, credentials: Any) -> AsyncIterator[int]:
        projects = ProjectsOverGrpc(self.state.projects.number, self.state.projects.id)
        server, port = await grpc_server.serve((self._grpc, projects), credentials)
        try:
            yield port
        finally:
            await server.stop(1.0)

    async def resume(self) -> None:
        """What the state says was there, or was going on, when it was last in use."""
        left = self.state.store.value(_SESSION)
        if left and left != self._engine.session:
            await asyncio.to_thread(self._engine.remove_session, left)
        self.state.store.set_value(_SESSION, self._engine.session)
        self.fleet.restore()
        self.state.operations.resume()
        self.jobs.resume()

    def is_private_address(self, host: str) -> bool:
        """Private Service Connect: any address of the caller's own network, once there is an endpoint of that kind."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return address.is_private and any(kind(endpoint) == "psc" for endpoint in self.state.endpoints.under(""))

    def _private(self, endpoint_id: str) -> str | None:
        for endpoint in self.state.endpoints.under(""):
            if endpoint.name.rpartition("/")[2] == endpoint_id and endpoint.network:
                return str(endpoint.name)
        return None

    def _about(self) -> dict[str, Any]:
        return {
            "models": len(self.state.versions.under("")),
            "endpoints": [endpoint.name for endpoint in self.state.endpoints.under("")],
            "registry": self._images.address,
            "logs": str(self._logs),
            "faults": self._faults.entries(),
        }
