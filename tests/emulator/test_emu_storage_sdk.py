"""Storage as programs and containers meet it: google-cloud-storage by both of its ways here, and a model's artifacts."""

import gc
import io
import os

import pytest
from emu_data_plane import JSON, PROJECT, ROUTES, TAG, do, vertex_plane  # noqa: F401
from google.api_core import exceptions
from google.cloud import aiplatform, storage

LONG = os.urandom(9 * 2**20)


@pytest.fixture(params=["by STORAGE_EMULATOR_HOST", "by storage.googleapis.com"])
def client(request, vertex_plane, monkeypatch):
    if request.param == "by storage.googleapis.com":
        monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    made = storage.Client(project=PROJECT)
    yield made
    made.close()
    gc.collect()


@pytest.fixture
def bucket(client, request):
    made = client.create_bucket("sdk-bucket")
    yield made
    made.delete(force=True)


def test_objects(client, bucket):
    blob = bucket.blob("a/long name ü?.bin", chunk_size=2**18 * 8)
    blob.upload_from_file(io.BytesIO(LONG), size=len(LONG), content_type="application/x-thing")  # resumable, in pieces
    got = client.bucket(bucket.name).get_blob("a/long name ü?.bin")
    assert (got.size, got.content_type, got.crc32c) == (len(LONG), "application/x-thing", blob.crc32c)
    assert got.download_as_bytes(checksum="crc32c") == LONG
    assert got.download_as_bytes(start=5, end=9) == LONG[5:10]
    bucket.blob("a/b/short").upload_from_string("text")
    bucket.blob("c").upload_from_string("text")
    assert [each.name for each in client.list_blobs(bucket, prefix="a/", delimiter="/")] == ["a/long name ü?.bin"]
    assert [each.name for each in client.list_blobs(bucket, max_results=2)] == ["a/b/short", "a/long name ü?.bin"]
    listing = client.list_blobs(bucket, delimiter="/")
    assert [each.name for each in listing] == ["c"]
    assert listing.prefixes == {"a/"}
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("c").upload_from_string("new", if_generation_match=0)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("d").download_as_bytes()
    copied = bucket.copy_blob(bucket.blob("c"), bucket, "e")
    assert copied.download_as_text() == "text"
    with pytest.raises(exceptions.Conflict):
        client.create_bucket(bucket.name)


def served(model, name):
    endpoint = model.deploy(machine_type="n1-standard-2")
    try:
        return endpoint.predict(instances=[do("artifact", name=name)]).predictions[0]
    finally:
        endpoint.delete(force=True)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_a_container_reads_the_artifacts_as_they_were_at_upload(vertex_plane, bucket, transport):
    vertex_plane.use(transport)
    bucket.blob("model/deep/model.txt").upload_from_string("as uploaded")
    bucket.blob("model2/deep/model.txt").upload_from_string("another")
    model = aiplatform.Model.upload(
        display_name="a", artifact_uri=f"gs://{bucket.name}/model", serving_container_image_uri=TAG, **ROUTES
    )
    bucket.blob("model/deep/model.txt").upload_from_string("changed since")
    assert served(model, "deep/model.txt") == "as uploaded"
    bucket.blob("model/deep/model.txt").delete()
    second = aiplatform.Model.upload(
        parent_model=model.resource_name,
        display_name="a",
        artifact_uri=f"gs://{bucket.name}/model2",
        serving_container_image_uri=TAG,
        **ROUTES,
    )
    assert served(second, "deep/model.txt") == "another"
    assert served(model, "deep/model.txt") == "as uploaded"
    model.delete()


def test_a_folder_of_this_machine_is_staged_by_the_sdk(vertex_plane, client, tmp_path, monkeypatch):
    # The SDK's own default bucket, whatever another test has told aiplatform.init.
    monkeypatch.setattr(aiplatform.initializer.global_config, "_staging_bucket", None)
    (tmp_path / "model.txt").write_text("from a folder")
    vertex_plane.use("grpc")
    model = aiplatform.Model.upload(
        display_name="f", artifact_uri=str(tmp_path), serving_container_image_uri=TAG, **ROUTES
    )
    assert model.uri.startswith("gs://")
    assert served(model, "model.txt") == "from a folder"
    model.delete()


def test_artifacts_that_are_not_there(vertex_plane):
    vertex_plane.use("grpc")
    with pytest.raises(exceptions.GoogleAPICallError, match="gs://not-there/model"):
        aiplatform.Model.upload(
            display_name="n", artifact_uri="gs://not-there/model", serving_container_image_uri=TAG, **ROUTES
        )
