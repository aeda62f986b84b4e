"""What is refused when a batch prediction job is created."""

import pytest
from emu_batch_parts import job_of
from google.cloud import aiplatform
from google.cloud.aiplatform_v1.types import BatchPredictionJob

from cpr_kit.emulator.batch.check import check
from cpr_kit.emulator.batch.readers import FORMATS
from cpr_kit.emulator.errors import ApiError, Code


def refusal(job):
    with pytest.raises(ApiError) as raised:
        check(job)
    return raised.value


@pytest.mark.parametrize("instances_format", FORMATS)
@pytest.mark.parametrize("predictions_format", ["jsonl", "csv"])
def test_what_is_taken(instances_format, predictions_format):
    check(job_of(instances_format, ["gs://box/a", "gs://box/b/*.x"], predictions_format=predictions_format))


def test_the_formats_are_the_sdks():
    of_sdk = set(aiplatform.constants.base.BATCH_PREDICTION_INPUT_STORAGE_FORMATS)
    assert set(FORMATS) == of_sdk - {"bigquery"}


def output(**fields):
    return {
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://box/out"}} | fields
    }


def machine(**fields):
    return {"dedicatedResources": {"machineSpec": {"machineType": "n1-standard-4"}} | fields}


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (job_of(displayName=""), "display_name must have 1 to 128 characters"),
        (job_of(displayName="x" * 129), "display_name must have 1 to 128 characters"),
        (job_of(model=""), "Exactly one of model and unmanaged_container_model"),
        (job_of(unmanagedContainerModel={}), "Exactly one of model and unmanaged_container_model"),
        (job_of("parquet"), "must be one of jsonl, csv, file-list, tf-record, tf-record-gzip, bigquery: 'parquet'"),
        (job_of(""), "instances_format must be one of"),
        (job_of(uris=[]), "at least one file"),
        (job_of(uris=["/tmp/rows"]), "must be a Cloud Storage URI such as gs://bucket/folder/file: '/tmp/rows'"),
        (job_of(uris=["gs://Box/rows"]), "must be a Cloud Storage URI"),
        (job_of(uris=["gs://b*x/rows"]), "must be a Cloud Storage URI"),
        (job_of(uris=["gs://box"]), "files and not a folder"),
        (job_of(uris=["gs://box/in/"]), "files and not a folder"),
        (job_of(uris=["gs://box/[z-a]"]), "broken wildcard"),
        (job_of(predictions_format="xml"), "predictions_format must be one of jsonl, csv, bigquery: 'xml'"),
        (job_of(**output(gcsDestination={})), "output_uri_prefix must be a Cloud Storage URI"),
        (
            job_of(**output(gcsDestination={"outputUriPrefix": "box/out"})),
            "output_uri_prefix must be a Cloud Storage URI",
        ),
        (job_of(instanceConfig={"instanceType": "list"}), "must be object or array: 'list'"),
        (job_of(instanceConfig={"includedFields": ["a"], "excludedFields": ["b"]}), "excluded_fields must be empty"),
        (job_of("file-list", instanceConfig={"keyField": "a"}), "the files of a file-list have none"),
        (job_of("file-list", instanceConfig={"instanceType": "array"}), "array does not apply to file-list"),
        (job_of("csv", instanceConfig={"instanceType": "object"}), "object does not apply to csv"),
        (job_of("tf-record", instanceConfig={"instanceType": "object"}), "object does not apply to tf-record"),
        (job_of(instanceConfig={"instanceType": "array", "keyField": "a"}), "included_fields must be populated"),
        (job_of(dedicatedResources={}), "machine_type must be set"),
        (job_of(**machine(startingReplicaCount=3, maxReplicaCount=2)), "between 1 and max_replica_count: 3 and 2"),
        (job_of(**machine(startingReplicaCount=-1)), "between 1 and max_replica_count"),
        (job_of(manualBatchTuningParameters={"batchSize": -1}), "batch_size must be at least 1: -1"),
    ],
)
def test_what_is_refused(job, says):
    error = refusal(job)
    assert (error.code, says in str(error)) == (Code.INVALID_ARGUMENT, True), str(error)


BIGQUERY = {"instancesFormat": "bigquery", "bigquerySource": {"inputUri": "bq://p.d.t"}}


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (job_of(inputConfig=BIGQUERY), "export the table to Cloud Storage as newline-delimited JSON"),
        (job_of("bigquery"), "export the table"),
        (
            job_of(outputConfig={"predictionsFormat": "bigquery", "bigqueryDestination": {"outputUri": "bq://p"}}),
            "predictionsFormat jsonl",
        ),
        (job_of(generateExplanation=True), "leave out generate_explanation"),
    ],
)
def test_what_is_not_emulated(job, says):
    error = refusal(job)
    assert (error.code, says in str(error)) == (Code.UNIMPLEMENTED, True), str(error)


def test_a_bare_job_of_the_sdks_own_type():
    assert "display_name" in str(refusal(BatchPredictionJob.pb(BatchPredictionJob())))
