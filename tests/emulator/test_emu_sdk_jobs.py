"""Batch prediction jobs as google-cloud-aiplatform itself sees them: what is refused, listed, cancelled and deleted.
What jobs read and write is tested in test_emu_batch.py.
"""

import json

import pytest
from emu_control import (  # noqa: F401 - fixtures
    IMAGE,
    LOCATION,
    MACHINE,
    client,
    emulator,
    jobs,
    models,
    number,
    numbered,
    parent,
    project,
    refused,
    transport,
    upload,
)
from google.cloud import aiplatform, storage
from google.cloud import aiplatform_v1beta1 as beta

gapic = aiplatform.gapic
BatchPredictionJob = aiplatform.BatchPredictionJob


@pytest.fixture
def model(transport):
    return upload(model_id="iris")


def job(model, **fields):
    whole = {
        "display_name": "job",
        "model": model,
        "input_config": {"instances_format": "jsonl", "gcs_source": {"uris": ["gs://box/none.jsonl"]}},
        "output_config": {
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": "gs://box/out"},
        },
        "dedicated_resources": {"machine_spec": {"machine_type": MACHINE}},
        **fields,
    }
    return {key: value for key, value in whole.items() if value is not None}


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"display_name": ""}, "INVALID_ARGUMENT", "display_name"),
        ({"display_name": "x" * 129}, "INVALID_ARGUMENT", "128"),
        ({"labels": {"A": "b"}}, "INVALID_ARGUMENT", "label"),
        ({"model": None}, "INVALID_ARGUMENT", "model"),
        ({"unmanaged_container_model": {"artifact_uri": "gs://b/m"}}, "INVALID_ARGUMENT", "model"),
        ({"model": None, "unmanaged_container_model": {}}, "INVALID_ARGUMENT", "image_uri"),
        ({"dedicated_resources": None}, "INVALID_ARGUMENT", "machine_type"),
        ({"input_config": {"instances_format": "yaml"}}, "INVALID_ARGUMENT", "instances_format"),
        ({"input_config": {"instances_format": "jsonl"}}, "INVALID_ARGUMENT", "gcs_source"),
        ({"output_config": {"predictions_format": "xml"}}, "INVALID_ARGUMENT", "predictions_format"),
        ({"output_config": {"predictions_format": "bigquery"}}, "UNIMPLEMENTED", "BigQuery"),
        ({"generate_explanation": True}, "UNIMPLEMENTED", "xplanations"),
    ],
)
def test_what_no_job_may_have(jobs, parent, transport, model, fields, code, words):
    given = job(**{"model": model.resource_name, **fields})
    with refused(transport, code, words):
        jobs.create_batch_prediction_job(parent=parent, batch_prediction_job=given)
    assert list(jobs.list_batch_prediction_jobs(parent=parent)) == []


def test_a_job_needs_its_model(jobs, parent, project, transport, model):
    for name, words in ((f"{parent}/models/none", "models/none"), (f"{parent}/models/iris@7", "iris@7")):
        with refused(transport, "NOT_FOUND", words):
            jobs.create_batch_prediction_job(parent=parent, batch_prediction_job=job(name))
    elsewhere = f"projects/{project}/locations/europe-west4"
    with refused(transport, "INVALID_ARGUMENT", "is not in"):
        jobs.create_batch_prediction_job(parent=elsewhere, batch_prediction_job=job(model.resource_name))


def test_a_job_is_of_the_version_that_it_names(jobs, parent, transport, model, project):
    client = storage.Client(project=project)
    bucket = client.create_bucket(f"bucket-{project}")
    bucket.blob("rows.jsonl").upload_from_string('{"do": "tell"}\n')
    upload(parent_model="iris", serving_container_environment_variables={"COLOUR": "of the second"})
    config = {"instances_format": "jsonl", "gcs_source": {"uris": [f"gs://{bucket.name}/rows.jsonl"]}}
    out = {"predictions_format": "jsonl", "gcs_destination": {"output_uri_prefix": f"gs://{bucket.name}/out"}}
    given = job(f"{model.resource_name}@1", input_config=config, output_config=out, model_version_id="9")
    made = jobs.create_batch_prediction_job(parent=parent, batch_prediction_job=given)
    assert (made.model, made.model_version_id) == (model.resource_name, "1")
    assert made.state == gapic.JobState.JOB_STATE_PENDING
    done = BatchPredictionJob(made.name)
    done.wait_for_completion()
    assert done.state == gapic.JobState.JOB_STATE_SUCCEEDED
    results = [blob.download_as_text() for blob in done.iter_outputs() if "results" in blob.name]
    assert len(results) == 1
    assert "of the second" not in results[0]
    client.close()


def test_a_job_answers_itself_and_ends(model, numbered, transport):
    made = BatchPredictionJob.submit(
        job_display_name="job",
        model_name=model.versioned_resource_name,
        gcs_source="gs://box/none.jsonl",
        gcs_destination_prefix="gs://box/out",
        machine_type=MACHINE,
        labels={"team": "botany"},
        model_parameters={"threshold": 0.5},
        batch_size=7,
    )
    assert made.resource_name.startswith(f"{numbered}/batchPredictionJobs/")
    assert made.name.isdigit()
    with pytest.raises(RuntimeError, match="none.jsonl"):
        made.wait_for_completion()
    found = BatchPredictionJob(made.resource_name).gca_resource
    assert found.state == gapic.JobState.JOB_STATE_FAILED
    assert (dict(found.labels), found.manual_batch_tuning_parameters.batch_size) == ({"team": "botany"}, 7)
    assert found.model_parameters["threshold"] == 0.5
    assert found.create_time <= found.start_time <= found.end_time


def test_jobs_are_listed_by_state_name_model_and_time(jobs, models, parent, model, transport):
    names = {}
    for display_name, labels in (("one", {"k": "1"}), ("two", {})):
        given = job(model.resource_name, display_name=display_name, labels=labels)
        made = jobs.create_batch_prediction_job(parent=parent, batch_prediction_job=given)
        names[display_name] = made.name
    for name in names.values():
        while jobs.get_batch_prediction_job(name=name).state != gapic.JobState.JOB_STATE_FAILED:
            pass

    def listed(text):
        found = jobs.list_batch_prediction_jobs(request={"parent": parent, "filter": text})
        return sorted(each.display_name for each in found)

    assert listed("") == ["one", "two"]
    assert listed('state="JOB_STATE_FAILED"') == ["one", "two"]
    assert listed('state!="JOB_STATE_FAILED"') == []
    assert listed('display_name="one"') == listed("labels.k=1") == ["one"]
    assert listed('display_name:"t*"') == ["two"]
    assert listed('create_time>"2021-05-18T00:00:00Z" AND NOT labels:k') == ["two"]
    assert listed('model_display_name="iris"') == ["one", "two"]
    assert {each.display_name for each in BatchPredictionJob.list()} == {"one", "two"}
    with refused(transport, "INVALID_ARGUMENT", "JOB_STATE_DONE"):
        listed('state="JOB_STATE_DONE"')
    pages = list(jobs.list_batch_prediction_jobs({"parent": parent, "page_size": 1}).pages)
    assert [len(page.batch_prediction_jobs) for page in pages] == [1, 1]
    model.delete()
    assert listed('model_display_name="iris"') == []
    assert listed("") == ["one", "two"]
    job_ = BatchPredictionJob(names["one"])
    job_.delete()
    assert listed("") == ["two"]
    with refused(transport, "NOT_FOUND", names["one"]):
        jobs.get_batch_prediction_job(name=names["one"])


def test_a_job_is_cancelled_and_then_deleted(jobs, parent, transport):
    hanging = upload("hanging", serving_container_environment_variables={"MODE": "own port"})
    made = jobs.create_batch_prediction_job(parent=parent, batch_prediction_job=job(hanging.resource_name))
    with refused(transport, "FAILED_PRECONDITION", "has not ended"):
        jobs.delete_batch_prediction_job(name=made.name)
    assert jobs.cancel_batch_prediction_job(name=made.name) is None
    while (found := jobs.get_batch_prediction_job(name=made.name)).state != gapic.JobState.JOB_STATE_CANCELLED:
        pass
    assert (found.error.code, bool(found.end_time)) == (1, True)
    jobs.cancel_batch_prediction_job(name=made.name)  # of one that has ended, nothing
    deletion = jobs.delete_batch_prediction_job(name=made.name)
    deletion.result()
    assert isinstance(deletion.metadata, gapic.DeleteOperationMetadata)
    assert deletion.operation.name.startswith(f"{made.name.split('/batchPredictionJobs/')[0]}/operations/")


def test_jobs_that_are_none(jobs, parent, transport):
    name = f"{parent}/batchPredictionJobs/1"
    for call in (jobs.get_batch_prediction_job, jobs.cancel_batch_prediction_job, jobs.delete_batch_prediction_job):
        with refused(transport, "NOT_FOUND", "batchPredictionJobs/1"):
            call(name=name)


def test_a_job_with_a_container_of_its_own_through_v1beta1(client, parent, project, number):
    jobs = client(beta.JobServiceClient)
    box = storage.Client(project=project).create_bucket(f"box-of-{project}")
    box.blob("rows.jsonl").upload_from_string("[1]\n")
    given = job(
        None,
        unmanaged_container_model={"container_spec": {"image_uri": IMAGE}, "artifact_uri": f"gs://{box.name}/model"},
        input_config={"instances_format": "jsonl", "gcs_source": {"uris": [f"gs://{box.name}/rows.jsonl"]}},
        output_config={
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": f"gs://{box.name}/out"},
        },
    )
    made = jobs.create_batch_prediction_job(parent=parent, batch_prediction_job=given)
    ended = (beta.JobState.JOB_STATE_FAILED, beta.JobState.JOB_STATE_SUCCEEDED)
    while (found := jobs.get_batch_prediction_job(name=made.name)).state not in ended:
        pass
    assert found.state == beta.JobState.JOB_STATE_SUCCEEDED, found.error
    results = next(blob for blob in box.list_blobs(prefix="out") if "results" in blob.name)
    seen = json.loads(results.download_as_text())["prediction"]["env"]
    assert seen["AIP_MACHINE_TYPE"] == MACHINE
    assert seen["AIP_PROJECT_NUMBER"] == number
    assert seen["AIP_STORAGE_URI"] == f"gs://{box.name}/model"
    assert [each.name for each in jobs.list_batch_prediction_jobs(parent=parent)] == [made.name]
    jobs.delete_batch_prediction_job(name=made.name).result()
