"""A model's container specification: checked at upload, and turned into the kit's own."""

from __future__ import annotations

from typing import Any

from cpr_kit.contract import ContainerSpec, Probe
from cpr_kit.emulator.errors import ApiError, failed_precondition, invalid_argument
from cpr_kit.errors import SpecError

_INVOKE_ANYTHING = "/*"


def read(message: Any) -> ContainerSpec:
    """The kit's specification of a ModelContainerSpec. Raises ApiError for what Vertex AI would refuse."""
    _check(message)
    try:
        liveness(message)
        return ContainerSpec(
            image_uri=message.image_uri,
            command=tuple(message.command),
            args=tuple(message.args),
            env={entry.name: entry.value for entry in message.env},
            ports=tuple(port.container_port for port in message.ports),
            grpc_ports=tuple(port.container_port for port in message.grpc_ports),
            predict_route=message.predict_route or None,
            health_route=message.health_route or None,
            shared_memory_size_mb=message.shared_memory_size_mb or None,
            deployment_timeout_s=message.deployment_timeout.seconds or None,
            startup_probe=_probe("startup_probe", message),
            health_probe=_probe("health_probe", message),
        )
    except SpecError as error:
        raise invalid_argument(f"Invalid container_spec: {error}") from error


def liveness(message: Any) -> Probe | None:
    """The probe in place of a TCP connection to the port (ModelContainerSpec.liveness_probe)."""
    return _probe("liveness_probe", message)


def _check(message: Any) -> None:
    if not message.image_uri:
        raise invalid_argument("container_spec.image_uri is required.")
    if message.invoke_route_prefix:
        if message.invoke_route_prefix != _INVOKE_ANYTHING:
            prefix = message.invoke_route_prefix
            raise invalid_argument(f'container_spec.invoke_route_prefix is "{prefix}"; only "/*" is supported.')
        if message.predict_route:
            raise invalid_argument("container_spec.invoke_route_prefix cannot be combined with predict_route.")


def _probe(field: str, message: Any) -> Probe | None:
    if not message.HasField(field):
        return None
    probe = getattr(message, field)
    given: dict[str, Any] = {
        name: value
        for name, value in (
            ("period_s", probe.period_seconds),
            ("timeout_s", probe.timeout_seconds),
            ("failure_threshold", probe.failure_threshold),
            ("success_threshold", probe.success_threshold),
            ("initial_delay_s", probe.initial_delay_seconds),
        )
        if value
    }
    kind = probe.WhichOneof("probe_type")
    if kind in ("exec", "exec_"):
        given["exec"] = tuple(getattr(probe, kind).command)
    elif kind == "http_get":
        given["http_path"] = probe.http_get.path or "/"
        given["port"] = probe.http_get.port or None
        given["http_headers"] = {header.name: header.value for header in probe.http_get.http_headers}
    elif kind == "tcp_socket":
        given["tcp"] = True
        given["port"] = probe.tcp_socket.port or None
    elif kind == "grpc":
        raise _not_here(field)
    else:
        raise invalid_argument(f"container_spec.{field} has no exec, http_get, tcp_socket or grpc.")
    return Probe(**given)


def _not_here(field: str) -> ApiError:
    return failed_precondition(
        f"container_spec.{field} is a gRPC probe. Vertex AI takes it; the emulator cannot ask it. "
        "Use an exec, http_get or tcp_socket probe here."
    )
