"""The API message ModelContainerSpec <-> `ContainerSpec`. Messages are read by their fields, whatever made them."""

from __future__ import annotations

from typing import Any

from cpr_kit.contract import ContainerSpec, Probe
from cpr_kit.errors import MissingExtra, SpecError


def read(message: Any) -> ContainerSpec:
    """Raises SpecError for what cannot be run here: a gRPC probe, an invoke route."""
    if getattr(message, "invoke_route_prefix", ""):
        raise SpecError("a container with an invoke_route_prefix cannot be run here; give it a predict_route")
    timeout = message.deployment_timeout
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
        deployment_timeout_s=int(timeout.total_seconds()) or None if timeout else None,
        startup_probe=_probe(message, "startup_probe"),
        health_probe=_probe(message, "health_probe"),
        liveness_probe=_probe(message, "liveness_probe"),
    )


def write(spec: ContainerSpec) -> Any:
    """google.cloud.aiplatform's ModelContainerSpec, which `Model.upload(local_model=...)` asks for."""
    try:
        from google.cloud.aiplatform_v1.types import env_var, model
        from google.protobuf import duration_pb2
    except ImportError as error:
        raise MissingExtra("google-cloud-aiplatform", "vertex") from error
    timeout = spec.deployment_timeout_s
    return model.ModelContainerSpec(
        image_uri=spec.image_uri,
        command=spec.command,
        args=spec.args,
        env=[env_var.EnvVar(name=name, value=value) for name, value in spec.env.items()],
        ports=[model.Port(container_port=port) for port in spec.ports],
        grpc_ports=[model.Port(container_port=port) for port in spec.grpc_ports],
        predict_route=spec.predict_route,
        health_route=spec.health_route,
        shared_memory_size_mb=spec.shared_memory_size_mb,
        deployment_timeout=duration_pb2.Duration(seconds=timeout) if timeout else None,
        startup_probe=_probe_message(spec.startup_probe, model.Probe),
        health_probe=_probe_message(spec.health_probe, model.Probe),
        liveness_probe=_probe_message(spec.liveness_probe, model.Probe),
    )


def _probe(message: Any, name: str) -> Probe | None:
    if name not in message:
        return None
    probe = getattr(message, name)
    values: dict[str, Any] = {
        "period_s": probe.period_seconds or 10.0,
        "timeout_s": probe.timeout_seconds or 1.0,
        "failure_threshold": probe.failure_threshold or 3,
        "success_threshold": probe.success_threshold or 1,
        "initial_delay_s": probe.initial_delay_seconds or 0.0,
    }
    if "grpc" in probe:
        raise SpecError(f"{name} is a gRPC probe; here a container is asked by exec, HTTP or TCP")
    if "http_get" in probe:
        headers = {header.name: header.value for header in probe.http_get.http_headers}
        values |= {"http_path": probe.http_get.path, "port": probe.http_get.port or None, "http_headers": headers}
    elif "tcp_socket" in probe:
        values |= {"tcp": True, "port": probe.tcp_socket.port or None}
    else:
        # The field was `exec` before it was `exec_`.
        action = probe.exec_ if hasattr(probe, "exec_") else probe.exec
        values["exec"] = tuple(action.command)
    return Probe(**values)


def _probe_message(probe: Probe | None, kind: Any) -> Any:
    if probe is None:
        return None
    action: dict[str, Any]
    if probe.exec:
        action = {"exec": kind.ExecAction(command=probe.exec)}
    elif probe.http_path is not None:
        headers = [kind.HttpHeader(name=name, value=value) for name, value in probe.http_headers.items()]
        action = {"http_get": kind.HttpGetAction(path=probe.http_path, port=probe.port or 0, http_headers=headers)}
    else:
        action = {"tcp_socket": kind.TcpSocketAction(port=probe.port or 0)}
    return kind(
        **action,
        period_seconds=round(probe.period_s),
        timeout_seconds=round(probe.timeout_s),
        failure_threshold=probe.failure_threshold,
        success_threshold=probe.success_threshold,
        initial_delay_seconds=round(probe.initial_delay_s),
    )
