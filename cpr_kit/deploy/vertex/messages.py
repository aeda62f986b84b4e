"""The API's messages, written from and read into plain values. Only google.cloud.aiplatform_v1's types are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cpr_kit import container_message
from cpr_kit.contract import ContainerSpec, EndpointKind
from cpr_kit.deploy.facts import label_mark
from cpr_kit.deploy.project import explanation
from cpr_kit.deploy.project.reservations import ANY, NONE
from cpr_kit.deploy.resources import Deployed, Endpoint, Version
from cpr_kit.deploy.target import Scale, Target

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import types

_RESERVATION = "compute.googleapis.com/reservation-name"
"""The key by which a reservation is named (ReservationAffinity.key)."""


def endpoint_for(target: Target) -> types.Endpoint:
    """CreateEndpoint's message for the target's kind ("Choose an endpoint type")."""
    from google.cloud.aiplatform_v1 import types

    message = types.Endpoint(display_name=target.endpoint, description=label_mark(target))
    if target.kind == "dedicated":
        message.dedicated_endpoint_enabled = True
    elif target.kind == "psa":
        message.network = target.network or ""
    elif target.kind == "psc":
        message.private_service_connect_config = types.PrivateServiceConnectConfig(
            enable_private_service_connect=True, project_allowlist=target.project_allowlist
        )
    if target.inference_timeout_s:
        from google.protobuf import duration_pb2

        message.client_connection_config = types.ClientConnectionConfig(
            inference_timeout=duration_pb2.Duration(seconds=target.inference_timeout_s)
        )
    if target.request_logging:
        message.predict_request_response_logging_config = request_logging(target)
    return message


def request_logging(target: Target) -> types.PredictRequestResponseLoggingConfig:
    """Disabled where the target has none: a message that is set overwrites what the endpoint had."""
    from google.cloud.aiplatform_v1 import types

    wanted = target.request_logging
    if wanted is None:
        return types.PredictRequestResponseLoggingConfig(enabled=False)
    return types.PredictRequestResponseLoggingConfig(
        enabled=True,
        sampling_rate=wanted.sampling_rate,
        bigquery_destination=types.BigQueryDestination(output_uri=wanted.table),
    )


def kind(message: Any) -> EndpointKind:
    if message.network:
        return "psa"
    if message.private_service_connect_config.enable_private_service_connect or message.enable_private_service_connect:
        return "psc"
    return "dedicated" if message.dedicated_endpoint_enabled else "public"


def endpoint(message: Any) -> Endpoint:
    split = dict(message.traffic_split)
    return Endpoint(
        id=message.name.rpartition("/")[2],
        name=message.name,
        display_name=message.display_name,
        kind=kind(message),
        etag=message.etag,
        dns=message.dedicated_endpoint_dns,
        labels=dict(message.labels),
        deployed=tuple(_deployed(each, split) for each in message.deployed_models),
        created=message.create_time,
        description=message.description,
        network=message.network,
        project_allowlist=tuple(message.private_service_connect_config.project_allowlist),
        inference_timeout_s=_timeout_s(message),
        logging=_logging(message),
        address=_address(message),
    )


def _address(message: Any) -> str:
    """Where a client on the peered network asks a psa endpoint, once something is deployed to it."""
    return next((m.private_endpoints.predict_http_uri for m in message.deployed_models if m.private_endpoints), "")


def _timeout_s(message: Any) -> int | None:
    timeout = message.client_connection_config.inference_timeout
    return int(timeout.total_seconds()) or None if timeout else None


def _logging(message: Any) -> tuple[float, str] | None:
    found = message.predict_request_response_logging_config
    return (found.sampling_rate, found.bigquery_destination.output_uri) if found.enabled else None


def _deployed(message: Any, split: Mapping[str, int]) -> Deployed:
    status = message.status
    return Deployed(
        id=message.id,
        display_name=message.display_name,
        model=_model_id(message.model),
        number=message.model_version_id,
        scale=_scale(message.dedicated_resources),
        traffic=split.get(message.id, 0),
        available_replicas=status.available_replica_count if status and status.available_replica_count else None,
        service_account=message.service_account,
        access_logging=message.enable_access_logging,
        container_logging=not message.disable_container_logging,
        created=message.create_time,
    )


def _model_id(name: str) -> str:
    return name.rpartition("/")[2].partition("@")[0]


def _scale(message: Any) -> Scale:
    machine = message.machine_spec
    accelerator = machine.accelerator_type
    return Scale(
        machine_type=machine.machine_type,
        accelerator_type=accelerator.name if accelerator else None,
        accelerator_count=machine.accelerator_count,
        tpu_topology=machine.tpu_topology or None,
        min_replicas=message.min_replica_count,
        max_replicas=message.max_replica_count or message.min_replica_count,
        required_replicas=message.required_replica_count or None,
        autoscaling={each.metric_name: each.target for each in message.autoscaling_metric_specs},
        spot=message.spot,
        reservation=_reservation(machine.reservation_affinity),
    )


def _reservation(affinity: Any) -> tuple[str, ...]:
    kind = affinity.reservation_affinity_type
    words = {"NO_RESERVATION": (NONE,), "ANY_RESERVATION": (ANY,)}
    return words.get(kind.name, tuple(affinity.values)) if kind else ()


def _affinity(names: tuple[str, ...]) -> types.ReservationAffinity:
    from google.cloud.aiplatform_v1 import types

    kinds = types.ReservationAffinity.Type
    words = {(NONE,): kinds.NO_RESERVATION, (ANY,): kinds.ANY_RESERVATION}
    if names in words:
        return types.ReservationAffinity(reservation_affinity_type=words[names])
    return types.ReservationAffinity(
        reservation_affinity_type=kinds.SPECIFIC_RESERVATION, key=_RESERVATION, values=names
    )


def resources(scale: Scale) -> types.DedicatedResources:
    from google.cloud.aiplatform_v1 import types

    machine = types.MachineSpec(machine_type=scale.machine_type)
    if scale.accelerator_type:
        machine.accelerator_type = getattr(types.AcceleratorType, scale.accelerator_type)
        machine.accelerator_count = scale.accelerator_count
    if scale.tpu_topology:
        machine.tpu_topology = scale.tpu_topology
    if scale.reservation:
        machine.reservation_affinity = _affinity(scale.reservation)
    return types.DedicatedResources(
        machine_spec=machine,
        min_replica_count=scale.min_replicas,
        max_replica_count=scale.max_replicas,
        required_replica_count=scale.required_replicas or 0,
        autoscaling_metric_specs=[
            types.AutoscalingMetricSpec(metric_name=name, target=value) for name, value in scale.autoscaling.items()
        ],
        spot=scale.spot,
    )


def deployed_for(target: Target, version_name: str, version: str, deployed_id: str) -> types.DeployedModel:
    """DeployModel's message; the caller chooses the id, so that a second call of the same cannot deploy twice."""
    from google.cloud.aiplatform_v1 import types

    return types.DeployedModel(
        id=deployed_id,
        model=version_name,
        display_name=version,
        dedicated_resources=resources(target.scale),
        service_account=target.service_account or "",
        disable_container_logging=not target.container_logging,
        enable_access_logging=target.access_logging,
    )


def version(message: Any) -> Version:
    return Version(
        model=_model_id(message.name),
        number=message.version_id,
        labels=dict(message.labels),
        aliases=tuple(message.version_aliases),
        image_uri=message.container_spec.image_uri,
        artifact_uri=message.artifact_uri,
        description=message.version_description,
        created=message.version_create_time,
    )


def model_for(
    target: Target, spec: ContainerSpec, artifact_uri: str | None, labels: Mapping[str, str], mark: str
) -> types.Model:
    from google.cloud.aiplatform_v1 import types

    return types.Model(
        display_name=target.model,
        container_spec=container_message.write(spec),
        artifact_uri=artifact_uri or "",
        explanation_spec=explanation.message(target.explanation) if target.explanation else None,
        version_description=mark,
        labels=dict(labels),
    )
