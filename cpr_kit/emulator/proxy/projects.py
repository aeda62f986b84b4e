"""Resource Manager over gRPC: how google-cloud-aiplatform turns GOOGLE_CLOUD_PROJECT's number into an id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

_METHOD = "/google.cloud.resourcemanager.v3.Projects/GetProject"


class Projects(grpc.GenericRpcHandler):  # type: ignore[misc]
    """For grpc.aio servers; answers GetProject alone. Every project is there, and active."""

    def __init__(self, number_of: Callable[[str], str], id_of: Callable[[str], str]) -> None:
        self._number_of = number_of
        self._id_of = id_of

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != _METHOD:
            return None
        from google.cloud.resourcemanager_v3.types import GetProjectRequest, Project

        async def get(request: Any, _context: Any) -> Any:
            given = request.name.removeprefix("projects/")
            return Project(
                name=f"projects/{self._number_of(given)}",
                project_id=self._id_of(given),
                display_name=self._id_of(given),
                state=Project.State.ACTIVE,
            )

        return grpc.unary_unary_rpc_method_handler(get, GetProjectRequest.deserialize, Project.serialize)
