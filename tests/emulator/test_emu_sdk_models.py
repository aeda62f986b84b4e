"""The model registry as google-cloud-aiplatform itself sees it, over gRPC and REST."""

import asyncio
import threading

import pytest
from emu_control import (  # noqa: F401 - fixtures
    HOST,
    IMAGE,
    LOCATION,
    MACHINE,
    client,
    emulator,
    endpoints,
    failed,
    models,
    number,
    numbered,
    parent,
    project,
    refused,
    transport,
    upload,
)
from google.api_core import exceptions
from google.cloud import aiplatform, storage
from google.cloud import aiplatform_v1beta1 as beta
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from cpr_kit.emulator import messages
from cpr_kit.emulator.operations import Operations
from cpr_kit.emulator.resources.models import Models
from cpr_kit.emulator.resources.state import State
from cpr_kit.emulator.settings import Settings
from cpr_kit.emulator.storage.depot import Depot
from cpr_kit.emulator.store import Store

gapic = aiplatform.gapic
ModelRegistry = aiplatform.models.ModelRegistry


@pytest.fixture
def bucket(transport, project):
    """With the artifacts of a model in `model/`."""
    client = storage.Client(project=project)
    bucket = client.create_bucket(f"bucket-{project}")
    bucket.blob("model/model.joblib").upload_from_string(b"first")
    bucket.blob("model/more/vocabulary.txt").upload_from_string(b"words")
    bucket.blob("model2/other.txt").upload_from_string(b"of another model")
    yield bucket
    client.close()


def spec(**fields):
    return gapic.ModelContainerSpec(image_uri=IMAGE, **fields)


def uploading(parent, model, **fields):
    return gapic.UploadModelRequest(parent=parent, model=model, **fields)


# Upload


def test_every_field_of_an_upload_comes_back(transport, numbered):
    made = aiplatform.Model.upload(
        display_name="iris",
        model_id="iris_1-a",
        description="flowers",
        labels={"team": "botany", "équipe": "été_1-a"},
        version_aliases=["blue", "golden"],
        version_description="first",
        serving_container_image_uri=IMAGE,
        serving_container_predict_route="/predict",
        serving_container_health_route="/health",
        serving_container_command=["python", "server.py"],
        serving_container_args=["--port=$(AIP_HTTP_PORT)"],
        serving_container_environment_variables={"COLOUR": "red", "PLACE": "$(AIP_STORAGE_URI)/x"},
        serving_container_ports=[8080, 9000],
        serving_container_grpc_ports=[9001],
        serving_container_deployment_timeout=900,
        serving_container_shared_memory_size_mb=64,
        serving_container_startup_probe_exec=["true"],
        serving_container_startup_probe_period_seconds=5,
        serving_container_startup_probe_timeout_seconds=4,
        serving_container_health_probe_exec=["test", "-e", "/tmp"],
        serving_container_health_probe_period_seconds=7,
        serving_container_health_probe_timeout_seconds=6,
    )
    assert made.resource_name == f"{numbered}/models/iris_1-a"
    assert (made.version_id, set(made.version_aliases)) == ("1", {"default", "blue", "golden"})
    found = aiplatform.Model("iris_1-a")
    assert (found.display_name, found.description, found.version_description) == ("iris", "flowers", "first")
    assert found.labels == {"team": "botany", "équipe": "été_1-a"}
    assert found.supported_deployment_resources_types == [gapic.Model.DeploymentResourcesType.DEDICATED_RESOURCES]
    formats = ["jsonl", "bigquery", "csv", "tf-record", "tf-record-gzip", "file-list"]
    assert found.supported_input_storage_formats == formats
    assert found.supported_output_storage_formats == ["jsonl", "bigquery"]
    assert found.create_time == found.version_create_time
    assert found.gca_resource.etag
    probe = gapic.Probe(exec_=gapic.Probe.ExecAction(command=["true"]), period_seconds=5, timeout_seconds=4)
    health = gapic.Probe(exec_=gapic.Probe.ExecAction(command=["test", "-e", "/tmp"]), period_seconds=7)
    health.timeout_seconds = 6
    assert found.container_spec == spec(
        predict_route="/predict",
        health_route="/health",
        command=["python", "server.py"],
        args=["--port=$(AIP_HTTP_PORT)"],
        env=[{"name": "COLOUR", "value": "red"}, {"name": "PLACE", "value": "$(AIP_STORAGE_URI)/x"}],
        ports=[{"container_port": 8080}, {"container_port": 9000}],
        grpc_ports=[{"container_port": 9001}],
        deployment_timeout=Duration(seconds=900),
        shared_memory_size_mb=64,
        startup_probe=probe,
        health_probe=health,
    )


def test_what_only_the_service_says_is_not_taken_from_an_upload(models, parent):
    model = gapic.Model(
        display_name="iris",
        container_spec=spec(),
        version_id="9",
        metadata_artifact="mine",
        deployed_models=[{"endpoint": f"{parent}/endpoints/1", "deployed_model_id": "1"}],
        supported_export_formats=[{"id": "custom-trained"}],
    )
    name = models.upload_model(uploading(parent, model)).result().model
    found = models.get_model(name=name)
    assert (found.version_id, found.metadata_artifact) == ("1", "")
    assert not found.deployed_models
    assert not found.supported_export_formats


def test_a_model_without_container_is_kept_and_cannot_serve(transport, models, endpoints, parent):
    model = models.upload_model(parent=parent, model=gapic.Model(display_name="bare")).result().model
    assert not models.get_model(name=model).supported_deployment_resources_types
    endpoint = endpoints.create_endpoint(parent=parent, endpoint=gapic.Endpoint(display_name="e")).result().name
    with refused(transport, "INVALID_ARGUMENT", "has no container_spec"):
        endpoints.deploy_model(endpoint=endpoint, deployed_model=gapic.DeployedModel(model=model))


def test_the_artifacts_are_copied_at_upload(bucket, number):
    made = upload(artifact_uri=f"gs://{bucket.name}/model")
    assert made.uri == f"gs://{bucket.name}/model"
    assert made.supported_export_formats == {"custom-trained": [gapic.Model.ExportFormat.ExportableContent.ARTIFACT]}
    bucket.blob("model/model.joblib").upload_from_string(b"second")
    managed = bucket.client.bucket(f"vertex-ai-managed-{number}")
    copies = {blob.name.partition("/artifacts/")[2]: blob.download_as_bytes() for blob in managed.list_blobs()}
    assert copies == {"model.joblib": b"first", "more/vocabulary.txt": b"words"}


def test_artifacts_of_this_machine_are_staged_by_the_sdk(bucket, project, tmp_path, transport):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.pkl").write_bytes(b"pickle")
    aiplatform.init(project=project, location=LOCATION, api_transport=transport, staging_bucket=f"gs://{bucket.name}")
    made = upload(artifact_uri=str(tmp_path / "model"))
    assert made.uri.startswith(f"gs://{bucket.name}/vertex_ai_auto_staging/")


def test_an_image_that_is_not_there_ends_the_upload(transport):
    with failed("FAILED_PRECONDITION", "nowhere.example/none:1"):
        aiplatform.Model.upload(
            display_name="iris", model_id="again", serving_container_image_uri="nowhere.example/none:1"
        )
    assert upload(model_id="again").version_id == "1"


def test_a_directory_without_objects_ends_the_upload(bucket):
    with failed("FAILED_PRECONDITION", "service-", "does not have", f"gs://{bucket.name}/mod"):
        upload(artifact_uri=f"gs://{bucket.name}/mod")


@pytest.mark.parametrize(
    ("model", "fields", "words"),
    [
        ({"display_name": ""}, {}, "display_name is required"),
        ({"display_name": "x" * 129}, {}, "128"),
        ({"labels": {"Team": "a"}}, {}, "label key"),
        ({"labels": {"1": "a"}}, {}, "label key"),
        ({"labels": {"a": "x" * 65}}, {}, "of label"),
        ({"labels": {f"l{index}": "" for index in range(65)}}, {}, "64"),
        ({"version_aliases": ["1"]}, {}, "version alias"),
        ({"version_aliases": ["Blue"]}, {}, "version alias"),
        ({"version_aliases": ["a" * 129]}, {}, "version alias"),
        ({"artifact_uri": "/home/me/model"}, {}, "gs://"),
        ({}, {"model_id": "1st"}, "model_id"),
        ({}, {"model_id": "-a"}, "model_id"),
        ({}, {"model_id": "a" * 64}, "model_id"),
        ({}, {"model_id": "a", "parent_model": "b"}, "either model_id"),
        ({"container_spec": {}}, {}, "image_uri"),
        ({"container_spec": {"env": [{"name": "AIP_MODE", "value": "x"}]}}, {}, "AIP_MODE"),
        ({"container_spec": {"predict_route": "predict"}}, {}, "predict_route"),
        ({"container_spec": {"ports": [{"container_port": 70000}]}}, {}, "70000"),
        ({"container_spec": {"deployment_timeout": Duration(seconds=7201)}}, {}, "2 h"),
        ({"container_spec": {"startup_probe": {}}}, {}, "startup_probe"),
        ({"container_spec": {"health_probe": {"exec": {}}}}, {}, "probe"),
        ({"container_spec": {"invoke_route_prefix": "/v1"}}, {}, "invoke_route_prefix"),
        ({"container_spec": {"invoke_route_prefix": "/*", "predict_route": "/p"}}, {}, "predict_route"),
    ],
)
def test_what_an_upload_may_not_have(transport, models, parent, model, fields, words):
    container = model.get("container_spec", {})
    image = {} if words == "image_uri" else {"image_uri": IMAGE}
    whole = {"display_name": "iris"} | model | {"container_spec": image | container}
    with refused(transport, "INVALID_ARGUMENT", words):
        models.upload_model({"parent": parent, "model": whole} | fields)


def test_a_name_is_given_once(transport, parent):
    upload(model_id="iris")
    with refused(transport, "ALREADY_EXISTS", "models/iris already exists"):
        upload(model_id="iris")


# Versions


def test_versions_and_their_aliases(transport, numbered):
    first = upload(model_id="iris", version_aliases=["blue"])
    second = upload(parent_model="iris", is_default_version=False, version_aliases=["green"])
    assert (second.resource_name, second.version_id, list(second.version_aliases)) == (
        f"{numbered}/models/iris",
        "2",
        ["green"],
    )
    assert second.versioned_resource_name == f"{numbered}/models/iris@2"
    assert aiplatform.Model("iris").version_id == "1"
    third = upload(parent_model=first.resource_name, version_aliases=["blue"])
    assert (third.version_id, set(third.version_aliases)) == ("3", {"default", "blue"})
    for name, version in {"iris": "3", "iris@1": "1", "iris@blue": "3", "iris@green": "2", "iris@default": "3"}.items():
        assert aiplatform.Model(name).version_id == version
    assert aiplatform.Model("iris", version="green").version_id == "2"
    assert list(aiplatform.Model("iris@1").version_aliases) == []
    with refused(transport, "NOT_FOUND", "models/iris@4 does not exist"):
        aiplatform.Model("iris@4")
    with refused(transport, "NOT_FOUND", "models/iris@none does not exist"):
        aiplatform.Model("iris@none")


def test_a_version_needs_its_model(transport, models, parent, project):
    with refused(transport, "NOT_FOUND", "models/none does not exist"):
        upload(parent_model="none")
    upload(model_id="iris")
    elsewhere = f"projects/{project}/locations/europe-west4/models/iris"
    model = gapic.Model(display_name="iris", container_spec=spec())
    with refused(transport, "INVALID_ARGUMENT", "is not in"):
        models.upload_model(uploading(parent, model, parent_model=elsewhere))


def test_the_registry_of_one_model(transport, numbered):
    made = upload(model_id="iris", version_description="first")
    upload(parent_model="iris", is_default_version=False)
    registry = ModelRegistry("iris")
    registry.add_version_aliases(["blue", "green"], version="1")
    registry.add_version_aliases(["green", "red"], version="2")
    registry.remove_version_aliases(["red", "never"], version="2")
    versions = {version.version_id: set(version.version_aliases) for version in registry.list_versions()}
    assert versions == {"1": {"default", "blue"}, "2": {"green"}}
    registry.add_version_aliases(["default"], version="green")
    assert made.versioning_registry.get_version_info("default").version_id == "2"
    assert registry.get_model("blue").version_id == "1"
    registry.update_version("1", version_description="the first", labels={"age": "old"})
    first, second = registry.get_version_info("1"), registry.get_version_info("2")
    assert (first.version_description, second.version_description) == ("the first", "")
    assert first.model_resource_name == f"{numbered}/models/iris"
    assert first.version_update_time > first.version_create_time
    assert (registry.get_model("1").labels, registry.get_model("2").labels) == ({"age": "old"}, {})
    registry.delete_version("2")
    assert [version.version_id for version in registry.list_versions()] == ["1"]
    assert set(registry.get_version_info("1").version_aliases) == {"default", "blue"}
    with refused(transport, "FAILED_PRECONDITION", "only version"):
        registry.delete_version("1")
    assert upload(parent_model="iris").version_id == "3"


@pytest.mark.parametrize("transport", ["rest"], indirect=True)
def test_versions_are_listed_in_pages_and_by_labels(models, transport):
    name = upload(model_id="iris").resource_name
    for age in ("old", "new"):
        upload(parent_model="iris", labels={"age": age})
    pages = list(models.list_model_versions({"name": name, "page_size": 2, "order_by": "create_time"}).pages)
    assert [[model.version_id for model in page.models] for page in pages] == [["1", "2"], ["3"]]
    found = models.list_model_versions({"name": name, "filter": "labels.age=old"})
    assert [model.name for model in found] == [f"{name}@2"]
    with refused(transport, "NOT_FOUND", "models/none"):
        models.list_model_versions(name=name.replace("iris", "none"))


def test_aliases_are_merged_for_a_version_that_is_named(transport, models):
    name = upload(model_id="iris").resource_name
    merged = models.merge_version_aliases(name=f"{name}@1", version_aliases=["a1", "b1", "-b1", "-c1"])
    assert set(merged.version_aliases) == {"default", "a1"}
    assert merged.name == f"{name}@1"
    for given, words in ((name, "names no version"), (f"{name}@1", "cannot be removed")):
        with refused(transport, "INVALID_ARGUMENT", words):
            models.merge_version_aliases(name=given, version_aliases=["-default"])
    with refused(transport, "INVALID_ARGUMENT", "alias"):
        models.merge_version_aliases(name=f"{name}@1", version_aliases=["2"])


# Update


def test_an_update_of_the_model_is_one_of_all_its_versions(transport):
    made = upload(model_id="iris", labels={"team": "botany", "stage": "test"})
    upload(parent_model="iris", labels={"age": "new", "stage": "mine"})  # which takes "default" from the first
    aiplatform.Model(made.resource_name).update(
        display_name="flowers", description="of all kinds", labels={"stage": "live"}
    )
    first, second = aiplatform.Model("iris@1"), aiplatform.Model("iris@2")
    for version in (first, second):
        assert (version.display_name, version.description) == ("flowers", "of all kinds")
    assert first.labels == {"stage": "live"}
    assert second.labels == {"stage": "mine", "age": "new"}
    assert [model.name for model in aiplatform.Model.list(filter='display_name="flowers"')] == ["iris"]


def test_a_name_says_whether_the_model_or_a_version_is_updated(transport, models):
    name = upload(model_id="iris").resource_name
    upload(parent_model="iris", is_default_version=False)

    def update(name, *paths, **fields):
        return models.update_model(model=gapic.Model(name=name, **fields), update_mask=FieldMask(paths=paths))

    assert update(f"{name}@2", "version_description", version_description="two").version_description == "two"
    assert models.get_model(name=name).version_description == ""
    assert update(f"{name}@-", "display_name", display_name="flowers").display_name == "flowers"
    assert update(name, "labels.some_key", labels={"some_key": "1", "b": "2"}).labels == {"some_key": "1"}
    with refused(transport, "FAILED_PRECONDITION", "version_description"):
        update(name, "version_description", version_description="x")
    with refused(transport, "FAILED_PRECONDITION", "display_name"):
        update(f"{name}@2", "display_name", "labels", display_name="x")
    for path in ("container_spec", "artifact_uri", "explanation_spec", "version_aliases"):
        with refused(transport, "INVALID_ARGUMENT", path):
            update(name, path)
    with refused(transport, "INVALID_ARGUMENT", "128"):
        update(name, "display_name", display_name="x" * 129)
    with refused(transport, "INVALID_ARGUMENT", "label"):
        update(f"{name}@2", "labels", labels={"A": "1"})
    with refused(transport, "NOT_FOUND"):
        update(f"{name}@3", "labels")


# Get and list


def test_a_project_may_be_named_by_id_or_number(transport, models, parent, numbered):
    name = upload(model_id="iris").resource_name
    assert name == f"{numbered}/models/iris"
    for start in (parent, numbered):
        assert models.get_model(name=f"{start}/models/iris").name == name
        assert [model.name for model in models.list_models(parent=start)] == [name]
    assert aiplatform.Model(f"{parent}/models/iris").resource_name == name


def test_lists_show_the_default_versions_of_one_location(transport, project):
    upload("b", model_id="b", labels={"k": "1"})
    upload("a", model_id="a", labels={"k": "2"})
    upload("c", model_id="c")
    upload("c", parent_model="c")
    upload("d", model_id="d", location="europe-west4")
    listed = aiplatform.Model.list
    assert [(model.name, model.version_id) for model in listed(order_by="display_name")] == [
        ("a", "1"),
        ("b", "1"),
        ("c", "2"),
    ]
    assert [model.name for model in listed(order_by="create_time desc")] == ["c", "a", "b"]
    assert [model.name for model in listed(filter="labels.k:*", order_by="display_name desc")] == ["b", "a"]
    assert [model.name for model in listed(filter='labels.k="2"')] == ["a"]
    assert [model.name for model in listed(filter='displayName!="a" AND NOT model=c')] == ["b"]
    assert [model.name for model in listed(location="europe-west4")] == ["d"]
    with refused(transport, "INVALID_ARGUMENT", "filter"):
        listed(filter="display_name>1")
    with refused(transport, "INVALID_ARGUMENT", "order_by"):
        listed(order_by="etag")


def test_lists_have_pages_and_masks(transport, models, parent):
    for name in "abcde":
        upload(name, model_id=name)
    request = {"parent": parent, "page_size": 2, "order_by": "display_name", "read_mask": {"paths": ["display_name"]}}
    pages = list(models.list_models(request).pages)
    assert [[model.display_name for model in page.models] for page in pages] == [["a", "b"], ["c", "d"], ["e"]]
    assert not any(model.name or model.labels for page in pages for model in page.models)
    assert len(aiplatform.Model.list()) == 5
    with refused(transport, "INVALID_ARGUMENT", "page token"):
        list(models.list_models({"parent": parent, "page_token": "mine"}))


# Copy and export


def test_a_copy_is_another_model(bucket, numbered, project):
    origin = upload(model_id="iris", artifact_uri=f"gs://{bucket.name}/model", version_aliases=["blue"])
    origin.update(labels={"team": "botany"})
    copy = origin.copy(destination_location="europe-west4")
    assert copy.resource_name.startswith(f"{numbered.replace(LOCATION, 'europe-west4')}/models/")
    assert copy.name != "iris"
    found = copy.gca_resource
    assert (copy.version_id, list(copy.version_aliases), copy.labels) == ("1", ["default"], {"team": "botany"})
    assert found.original_model_info.model == f"{numbered}/models/iris@1"
    assert found.model_source_info.copy
    assert found.container_spec == origin.container_spec
    version = origin.copy(destination_location=LOCATION, destination_parent_model="iris")
    assert (version.resource_name, version.version_id) == (f"{numbered}/models/iris", "2")
    named = origin.copy(destination_location=LOCATION, destination_model_id="twin")
    assert named.name == "twin"


def test_an_export_writes_the_artifacts_of_the_version(transport, bucket):
    made = upload(artifact_uri=f"gs://{bucket.name}/model")
    bucket.blob("model/model.joblib").upload_from_string(b"second")
    info = made.export_model("custom-trained", artifact_destination=f"gs://{bucket.name}/out/")
    folder = info["artifactOutputUri"].removeprefix(f"gs://{bucket.name}/")
    assert folder.startswith("out/model-export-iris-")
    written = {blob.name.removeprefix(folder): blob.download_as_bytes() for blob in bucket.list_blobs(prefix="out/")}
    assert written == {"/model.joblib": b"first", "/more/vocabulary.txt": b"words"}


def test_what_cannot_be_exported(transport, models, bucket):
    bare, whole = upload(), upload(artifact_uri=f"gs://{bucket.name}/model")
    artifact = {"artifact_destination": {"output_uri_prefix": f"gs://{bucket.name}/out"}}
    for model, config, words in (
        (bare, artifact, "no artifacts"),
        (whole, {}, "gs:// directory"),
        (whole, artifact | {"export_format_id": "tflite"}, "tflite"),
    ):
        with refused(transport, "INVALID_ARGUMENT", words):
            models.export_model({"name": model.resource_name, "output_config": config})


# Delete


def test_a_deleted_model_is_gone_with_its_copies(bucket, number, transport):
    made = upload(model_id="iris", artifact_uri=f"gs://{bucket.name}/model", labels={"a": "b"})
    upload(parent_model="iris", artifact_uri=f"gs://{bucket.name}/model")
    made.delete()
    assert aiplatform.Model.list() == []
    assert not list(bucket.client.list_blobs(f"vertex-ai-managed-{number}"))
    with refused(transport, "NOT_FOUND", "models/iris"):
        aiplatform.Model("iris")
    again = upload(model_id="iris")
    assert (again.version_id, again.labels) == ("1", {})


def test_what_cannot_be_deleted(transport, models, numbered):
    with refused(transport, "NOT_FOUND", "models/none"):
        models.delete_model(name=f"{numbered}/models/none")
    name = upload(model_id="iris").resource_name
    with refused(transport, "INVALID_ARGUMENT", "names a version"):
        models.delete_model(name=f"{name}@1")
    with refused(transport, "INVALID_ARGUMENT", "names no version"):
        models.delete_model_version(name=name)
    with refused(transport, "NOT_FOUND", "iris@7"):
        models.delete_model_version(name=f"{name}@7")


def test_a_deployed_version_is_not_deleted(transport, numbered):
    first = upload(model_id="iris")
    upload(parent_model="iris")
    endpoint = aiplatform.Endpoint.create(display_name="e", endpoint_id="e")
    first.deploy(endpoint, machine_type=MACHINE)
    deployed = aiplatform.Model("iris@1").gca_resource.deployed_models
    assert [each.endpoint for each in deployed] == [f"{numbered}/endpoints/e"]
    assert not aiplatform.Model("iris@2").gca_resource.deployed_models
    with refused(transport, "FAILED_PRECONDITION", "iris@1 is deployed", "endpoints/e"):
        first.delete()
    with refused(transport, "FAILED_PRECONDITION", "iris@1 is deployed"):
        ModelRegistry("iris").delete_version("1")
    ModelRegistry("iris").delete_version("2")
    endpoint.delete(force=True)
    first.delete()


# v1beta1


def test_a_client_of_v1beta1(client, parent, numbered, transport):
    models = client(beta.ModelServiceClient)
    model = beta.Model(display_name="iris", container_spec=beta.ModelContainerSpec(image_uri=IMAGE))
    operation = models.upload_model(beta.UploadModelRequest(parent=parent, model=model, model_id="iris"))
    assert operation.result() == beta.UploadModelResponse(model=f"{numbered}/models/iris", model_version_id="1")
    assert isinstance(operation.metadata, beta.UploadModelOperationMetadata)
    assert models.get_model(name=f"{parent}/models/iris@1").container_spec.image_uri == IMAGE
    assert [each.display_name for each in models.list_models(parent=parent)] == ["iris"]
    with refused(transport, "FAILED_PRECONDITION", "only version"):
        models.delete_model_version(name=f"{parent}/models/iris@1")
    models.delete_model(name=f"{parent}/models/iris").result()


# Many at once


def together(work, count):
    """What each of `count` threads got from `work(index)`, begun at one moment: a value or an API error."""
    gate, results = threading.Barrier(count), [None] * count

    def run(index):
        gate.wait()
        try:
            results[index] = work(index)
        except exceptions.GoogleAPICallError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_many_uploads_with_one_id_one_wins(models, parent):
    model = gapic.Model(display_name="iris", container_spec=spec())
    results = together(lambda _: models.upload_model(uploading(parent, model, model_id="iris")), 8)
    assert [result for result in results if not isinstance(result, exceptions.Conflict)][0].result()
    assert sum(isinstance(result, exceptions.Conflict) for result in results) == 7
    assert [model.version_id for model in models.list_models(parent=parent)] == ["1"]


def test_aliases_that_many_move_are_in_one_place(models, parent):
    model = gapic.Model(display_name="iris", container_spec=spec())
    models.upload_model(uploading(parent, model, model_id="iris")).result()
    name = f"{parent}/models/iris"

    def add(_):
        return models.upload_model(uploading(parent, model, parent_model=name)).result().model_version_id

    assert set(together(add, 5)) == {"2", "3", "4", "5", "6"}

    def move(index):
        version = index % 6 + 1
        return models.merge_version_aliases(name=f"{name}@{version}", version_aliases=["golden", "default"])

    together(move, 18)
    aliases = [alias for each in models.list_model_versions(name=name) for alias in each.version_aliases]
    assert sorted(aliases) == ["default", "golden"]
    assert models.get_model(name=name).version_id == models.get_model(name=f"{name}@golden").version_id


def test_of_two_last_versions_deleted_at_once_one_stays(tmp_path):
    """Both calls are taken before the work of either begins, which no client can time."""

    async def no_fault(*_):
        pass

    async def run():
        store = Store()
        operations = Operations(store, no_fault)
        with Depot(tmp_path) as depot:
            calls = Models(State(store, depot, operations, Settings()), lambda _: "image", lambda _: None)
            name = "projects/1/locations/us-central1/models/iris"
            for parent_model in ("", name):
                request = messages.UploadModelRequest(parent=name.partition("/models")[0], parent_model=parent_model)
                request.model.display_name = "iris"
                request.model_id = "" if parent_model else "iris"
                await operations.wait(calls.upload(request).name, 10)
            both = [messages.DeleteModelVersionRequest(name=f"{name}@{version}") for version in (1, 2)]
            begun = [calls.delete_version(request) for request in both]
            ended = [await operations.wait(operation.name, 10) for operation in begun]
            [left] = calls.list_versions(messages.ListModelVersionsRequest(name=name)).models
        store.close()
        return ended, left

    ended, left = asyncio.run(run())
    assert [operation.WhichOneof("result") for operation in ended] == ["response", "error"]
    assert "only version" in ended[1].error.message
    assert (left.version_id, list(left.version_aliases)) == ("2", ["default"])
