"""What Vertex AI refuses of a batch prediction job when it is created.

The rules are those of the API's BatchPredictionJob message for a custom container; the words are ours.
"""

from __future__ import annotations

import re
from typing import Any

from cpr_kit.emulator.batch.inputs import pattern
from cpr_kit.emulator.batch.readers import FORMATS
from cpr_kit.emulator.batch.rows import InstanceConfig
from cpr_kit.emulator.errors import invalid_argument, unimplemented

OUTPUT_FORMATS = ("jsonl", "csv")
"""Custom containers report jsonl and bigquery; the service writes csv too, and bigquery is not emulated."""
INSTANCE_TYPES = ("object", "array")
_URI = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?", re.DOTALL)
_DISPLAY_NAME = 128
_NO_BIGQUERY = (
    "BigQuery is not emulated here: export the table to Cloud Storage as newline-delimited JSON and give its files "
    "as gcsSource with instancesFormat jsonl; write to gcsDestination with predictionsFormat jsonl."
)


def check(job: Any) -> None:
    """Raises the ApiError that creating `job` (BatchPredictionJob) is answered with."""
    if not 1 <= len(job.display_name) <= _DISPLAY_NAME:
        raise invalid_argument(f"display_name must have 1 to {_DISPLAY_NAME} characters: {job.display_name!r}.")
    if bool(job.model) == job.HasField("unmanaged_container_model"):
        raise invalid_argument("Exactly one of model and unmanaged_container_model must be set.")
    _check_input(job.input_config)
    _check_output(job.output_config)
    _check_instance_config(InstanceConfig.of(job.instance_config), job.input_config.instances_format)
    _check_resources(job)
    if job.generate_explanation or job.HasField("explanation_spec"):
        raise unimplemented("Explanations in batch prediction are not emulated here: leave out generate_explanation.")


def _check_input(config: Any) -> None:
    source = config.WhichOneof("source")
    if source == "bigquery_source" or config.instances_format == "bigquery":
        raise unimplemented(_NO_BIGQUERY)
    if source == "vertex_multimodal_dataset_source":
        raise unimplemented("Datasets are not emulated here: give the files of the dataset as gcsSource.")
    if config.instances_format not in FORMATS:
        known = ", ".join(FORMATS)
        raise invalid_argument(
            f"input_config.instances_format must be one of {known}, bigquery: {config.instances_format!r}."
        )
    if not config.gcs_source.uris:
        raise invalid_argument("input_config.gcs_source.uris must name at least one file.")
    for uri in config.gcs_source.uris:
        _check_uri("input_config.gcs_source.uris", uri)
        if uri.endswith("/") or "/" not in uri.removeprefix("gs://"):
            raise invalid_argument(f"input_config.gcs_source.uris must name files and not a folder: {uri!r}.")
        try:
            pattern(uri)
        except re.error as error:
            raise invalid_argument(f"input_config.gcs_source.uris has a broken wildcard ({error}): {uri!r}.") from None


def _check_output(config: Any) -> None:
    destination = config.WhichOneof("destination")
    if destination == "bigquery_destination" or config.predictions_format == "bigquery":
        raise unimplemented(_NO_BIGQUERY)
    if destination == "vertex_multimodal_dataset_destination":
        raise unimplemented("Datasets are not emulated here: write to gcsDestination.")
    if config.predictions_format not in OUTPUT_FORMATS:
        known = ", ".join(OUTPUT_FORMATS)
        raise invalid_argument(
            f"output_config.predictions_format must be one of {known}, bigquery: {config.predictions_format!r}."
        )
    _check_uri("output_config.gcs_destination.output_uri_prefix", config.gcs_destination.output_uri_prefix)


def _check_uri(name: str, uri: str) -> None:
    if not _URI.fullmatch(uri):
        raise invalid_argument(f"{name} must be a Cloud Storage URI such as gs://bucket/folder/file: {uri!r}.")


def _check_instance_config(config: InstanceConfig, instances_format: str) -> None:
    """InstanceConfig: which fields go together, and with which format."""
    if config.type and config.type not in INSTANCE_TYPES:
        raise invalid_argument(f"instance_config.instance_type must be object or array: {config.type!r}.")
    if config.included and config.excluded:
        raise invalid_argument("instance_config.excluded_fields must be empty when included_fields is populated.")
    if instances_format == "file-list" and config.names_fields:
        raise invalid_argument("instance_config names fields, and the files of a file-list have none.")
    # An array is what csv gives anyway.
    if config.type and instances_format != "jsonl" and (instances_format, config.type) != ("csv", "array"):
        raise invalid_argument(f"instance_config.instance_type {config.type} does not apply to {instances_format}.")
    if config.type == "array" and instances_format == "jsonl" and config.names_fields and not config.included:
        raise invalid_argument(
            "instance_config.included_fields must be populated to give the order of an array made of JSON objects."
        )


def _check_resources(job: Any) -> None:
    """Custom containers have no automatic resources, so that dedicated ones "must be provided"."""
    if not job.dedicated_resources.machine_spec.machine_type:
        raise invalid_argument(
            "dedicated_resources.machine_spec.machine_type must be set: a model with a custom container supports "
            "DEDICATED_RESOURCES only. In the SDK that is machine_type=."
        )
    starting, most = job.dedicated_resources.starting_replica_count, job.dedicated_resources.max_replica_count
    if starting < 0 or most < 0 or (starting and most and starting > most):
        raise invalid_argument(
            "dedicated_resources.starting_replica_count must be between 1 and max_replica_count: "
            f"{starting} and {most}."
        )
    if job.manual_batch_tuning_parameters.batch_size < 0:
        size = job.manual_batch_tuning_parameters.batch_size
        raise invalid_argument(f"manual_batch_tuning_parameters.batch_size must be at least 1: {size}.")
