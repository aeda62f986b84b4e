"""Calls that Vertex AI has and a custom container, or this machine, cannot answer: each with its reason."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from cpr_kit.emulator.errors import ApiError, failed_precondition, internal, not_found
from cpr_kit.emulator.messages import ListDeploymentResourcePoolsResponse, QueryDeployedModelsResponse
from cpr_kit.emulator.resources.state import State

SERVED = "the calls of models, endpoints, predictions, batch prediction jobs and their operations"


def failure(error: Exception, report: Callable[[str], None]) -> ApiError:
    """What a caller is told of a fault of the emulator itself; `report` gets where it lies."""
    report(f"the emulator failed:\n{''.join(traceback.format_exception(error))}")
    return internal(f"the emulator failed: {type(error).__name__}: {error}")


class Pools:
    """Deployment resource pools share machines among models of prebuilt TensorFlow and PyTorch containers only
    (Share resources across deployments), so none can be made here; there are never any to list.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        service = "DeploymentResourcePoolService"
        self.calls: dict[str, Callable[[Any], Any]] = {
            f"{service}.CreateDeploymentResourcePool": self.create,
            f"{service}.GetDeploymentResourcePool": self.missing,
            f"{service}.DeleteDeploymentResourcePool": self.missing,
            f"{service}.UpdateDeploymentResourcePool": self.missing,
            f"{service}.ListDeploymentResourcePools": self.list,
            f"{service}.QueryDeployedModels": self.query,
        }

    def create(self, request: Any) -> Any:
        self._state.name(request.parent)
        raise failed_precondition(
            "A DeploymentResourcePool takes models of prebuilt TensorFlow and PyTorch containers; models with custom "
            "containers, which are all that the emulator serves, are deployed with dedicated_resources."
        )

    def missing(self, request: Any) -> Any:
        has_name = "name" in request.DESCRIPTOR.fields_by_name
        name = request.name if has_name else request.deployment_resource_pool.name
        raise not_found(
            f"The DeploymentResourcePool {self._state.name(name, 'deploymentResourcePools')} does not exist."
        )

    def list(self, request: Any) -> Any:
        self._state.name(request.parent)
        return ListDeploymentResourcePoolsResponse()

    def query(self, request: Any) -> Any:
        self._state.name(request.deployment_resource_pool, "deploymentResourcePools")
        return QueryDeployedModelsResponse()
