"""A model's container specification: refused at upload where Vertex AI would, and read as the kit reads it anywhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from cpr_kit import container_message
from cpr_kit.contract import ContainerSpec, Probe
from cpr_kit.emulator.errors import ApiError, failed_precondition, invalid_argument
from cpr_kit.errors import SpecError

_INVOKE_ANYTHING = "/*"
_PROBES = ("startup_probe", "health_probe", "liveness_probe")
_ROOT = "/"
_DURATION = "google.protobuf.Duration"


def read(message: Any) -> ContainerSpec:
    """The kit's specification of a ModelContainerSpec. Raises ApiError for what Vertex AI would refuse."""
    _check(message)
    try:
        spec = container_message.read(_Fields(message, invoke_route_prefix=""))
    except SpecError as error:
        raise invalid_argument(f"Invalid container_spec: {error}") from error
    return replace(
        spec,
        startup_probe=_with_path(spec.startup_probe),
        health_probe=_with_path(spec.health_probe),
        liveness_probe=_with_path(spec.liveness_probe),
    )


class _Fields:
    """A message of the protobuf library with the fields that proto-plus shows: those not set are not `in` it."""

    def __init__(self, message: Any, **instead: Any) -> None:
        self._message = message
        self._instead = instead

    def __contains__(self, name: str) -> bool:
        return bool(self._message.HasField(name))

    def __getattr__(self, name: str) -> Any:
        if name in self._instead:
            return self._instead[name]
        value = getattr(self._message, name)
        if not hasattr(value, "DESCRIPTOR"):  # a plain value, or several
            return value
        if value.DESCRIPTOR.full_name == _DURATION:
            return timedelta(seconds=value.seconds)
        return _Fields(value)


def _check(message: Any) -> None:
    if not message.image_uri:
        raise invalid_argument("container_spec.image_uri is required.")
    if message.invoke_route_prefix:
        if message.invoke_route_prefix != _INVOKE_ANYTHING:
            prefix = message.invoke_route_prefix
            raise invalid_argument(f'container_spec.invoke_route_prefix is "{prefix}"; only "/*" is supported.')
        if message.predict_route:
            raise invalid_argument("container_spec.invoke_route_prefix cannot be combined with predict_route.")
    for field in _PROBES:
        kind = getattr(message, field).WhichOneof("probe_type") if message.HasField(field) else ""
        if kind is None:
            raise invalid_argument(f"container_spec.{field} has no exec, http_get, tcp_socket or grpc.")
        if kind == "grpc":
            raise _not_here(field)


def _with_path(probe: Probe | None) -> Probe | None:
    """A request without a path is for the root."""
    return replace(probe, http_path=_ROOT) if probe and probe.http_path == "" else probe


def _not_here(field: str) -> ApiError:
    return failed_precondition(
        f"container_spec.{field} is a gRPC probe. Vertex AI takes it; the emulator cannot ask it. "
        "Use an exec, http_get or tcp_socket probe here."
    )
