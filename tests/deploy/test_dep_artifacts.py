"""Artifacts: one digest for a folder, and a copy of it in the emulator's Cloud Storage by the real client."""

import os
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from google.cloud import storage

from cpr_kit.deploy.artifacts import staged as artifacts
from cpr_kit.deploy.artifacts import folder
from cpr_kit.emulator.program import emulate
from cpr_kit.errors import ConfigError, DeployError

REGION = "europe-west4"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def local(tmp_path):
    return write(tmp_path / "model", {"model.joblib": "weights", "a/b.txt": "b", "a.txt": "a"})


class TestFolder:
    def test_the_digest_is_of_paths_and_contents(self, local, tmp_path):
        before = artifacts.digest(str(local))
        assert len(bytes.fromhex(before)) == 32
        twin = write(tmp_path / "twin", {"a.txt": "a", "a/b.txt": "b", "model.joblib": "weights"})
        os.utime(twin / "a.txt", (1, 1))
        assert artifacts.digest(str(twin)) == before
        (twin / "empty").mkdir()
        assert artifacts.digest(str(twin)) == before, "Cloud Storage has no empty folders"

    def test_it_does_not_change_by_itself(self, local):
        """Labels of models hold it: another way to make it would upload every model anew."""
        expected = "4b43ed6241a8bc282da420d7b90edd54e7acdff4bb08f991fba6f8c5cbd91c2d"
        assert artifacts.digest(str(local)) == expected

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"a": "1"}, {"a": "2"}),
            ({"a": "1"}, {"b": "1"}),
            ({"a": "1", "b": "2"}, {"a": "2", "b": "1"}),
            ({"a": "bc"}, {"ab": "c"}),
            ({"a/b": "1"}, {"a-b": "1"}),
            ({"a": ""}, {"a": "", "b": ""}),
        ],
    )
    def test_two_folders_never_look_alike(self, tmp_path, one, other):
        assert artifacts.digest(str(write(tmp_path / "1", one))) != artifacts.digest(str(write(tmp_path / "2", other)))

    def test_what_python_and_macos_leave_does_not_count(self, local):
        before = artifacts.digest(str(local))
        write(local, {"__pycache__/x.pyc": "x", "a/.DS_Store": "x"})
        assert artifacts.digest(str(local)) == before
        write(local, {".hidden": "this does"})
        assert artifacts.digest(str(local)) != before

    def test_links_are_followed_inside(self, local, tmp_path):
        (local / "copy.joblib").symlink_to("model.joblib")
        (local / "again").symlink_to("a")
        assert [name for name, _ in folder.walk(local)] == [
            "a.txt",
            "a/b.txt",
            "again/b.txt",
            "copy.joblib",
            "model.joblib",
        ]
        linked = tmp_path / "linked"
        linked.symlink_to(local)
        assert artifacts.digest(str(linked)) == artifacts.digest(str(local))

    def test_links_out_in_circles_and_to_nothing_are_refused(self, local, tmp_path):
        (tmp_path / "secret").write_text("secret")
        for target, said in (
            (tmp_path / "secret", "out of the artifacts"),
            ("..", "out of"),
            (".", "out of"),
            ("none", "link to nothing"),
            ("link", "link to nothing"),
        ):
            link = local / "link"
            link.symlink_to(target)
            with pytest.raises(ConfigError, match=said):
                artifacts.digest(str(local))
            link.unlink()
        (local / "a" / "up").symlink_to(local / "a")
        with pytest.raises(ConfigError, match="a folder that it is in"):
            artifacts.digest(str(local))

    def test_what_is_no_file_is_refused(self, tmp_path):
        for name, make in (("pipe", os.mkfifo), ("socket", _socket)):
            root = write(tmp_path / name, {"a": "a"})
            make(root / name)
            with pytest.raises(ConfigError, match="neither a file nor a folder"):
                artifacts.digest(str(root))

    def test_names_that_no_object_can_have_are_refused(self, tmp_path):
        for count, name in enumerate((b"new\nline", b"\xff")):
            root = tmp_path / str(count)
            root.mkdir()
            with open(os.fsencode(root) + b"/" + name, "w"):
                pass
            with pytest.raises(ConfigError, match="rename it"):
                artifacts.digest(str(root))

    def test_a_file_is_read_once_until_somebody_writes_it(self, local, monkeypatch):
        """However many regions ask; and staging looks at the same files once more."""
        monkeypatch.setattr(folder, "_SETTLED_NS", -1)
        read = []
        real = folder._read
        monkeypatch.setattr(folder, "_read", lambda path: read.append(path.name) or real(path))
        with ThreadPoolExecutor(3) as pool:
            digests = set(pool.map(artifacts.digest, [str(local)] * 6))
        assert len(digests) == 1
        assert sorted(read) == ["a.txt", "b.txt", "model.joblib"]
        (local / "a.txt").write_text("A")
        assert artifacts.digest(str(local)) not in digests
        assert sorted(read) == ["a.txt", "a.txt", "b.txt", "model.joblib"]

    def test_a_file_that_was_written_a_moment_ago_is_not_taken_as_known(self, local, monkeypatch):
        """It may be written again within one tick of the clock, and look the same."""
        stamp = (local / "a.txt").stat()
        monkeypatch.setattr(folder, "_stat", lambda path: (0, 0, 1, stamp.st_mtime_ns, stamp.st_ctime_ns))
        monkeypatch.setattr(folder, "_SETTLED_NS", 3600 * 10**9)
        before = artifacts.digest(str(local))
        (local / "a.txt").write_text("A")
        assert artifacts.digest(str(local)) != before

    def test_no_folder_is_said(self, local, tmp_path):
        (tmp_path / "empty").mkdir()
        for path, said in (
            (tmp_path / "none", "not there"),
            (local / "a.txt", "a file; name the folder"),
            (tmp_path / "empty", "no files"),
        ):
            with pytest.raises(ConfigError, match=said):
                artifacts.digest(str(path))

    def test_none_is_none(self):
        assert artifacts.digest(None) is None


def _socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.fixture(scope="module")
def emulator():
    with emulate(engine="process", project="dep-artifacts") as running:
        yield running


@pytest.fixture
def buckets(emulator):
    """Makes buckets."""
    client = storage.Client(project="dep-artifacts")

    def make(location=REGION):
        return client.create_bucket(f"dep-{uuid.uuid4().hex[:12]}", location=location)

    yield make
    client.close()


def contents(bucket, prefix=""):
    return {blob.name.removeprefix(prefix): blob.download_as_text() for blob in bucket.list_blobs(prefix=prefix)}


def fill(bucket, files):
    for name, text in files.items():
        bucket.blob(name).upload_from_string(text)


def test_a_folder_is_staged_under_its_digest_once(local, buckets):
    bucket, lines = buckets(), []
    digest = artifacts.digest(str(local))
    uri = artifacts.stage(str(local), f"gs://{bucket.name}/some/where/", digest, lines.append)
    assert uri == f"gs://{bucket.name}/some/where/cpr-kit/artifacts/{digest}/"
    assert uri == artifacts.staged_uri(f"gs://{bucket.name}/some/where", digest)
    prefix = uri.split(bucket.name + "/")[1]
    assert contents(bucket, prefix) == {"a.txt": "a", "a/b.txt": "b", "model.joblib": "weights"}
    assert lines == [f"staging 3 of 3 files (9 B) to {uri}"]

    before = {blob.name: blob.generation for blob in bucket.list_blobs()}
    lines.clear()
    assert artifacts.stage(str(local), f"gs://{bucket.name}/some/where", digest, lines.append) == uri
    assert {blob.name: blob.generation for blob in bucket.list_blobs()} == before
    assert lines == [f"the artifacts are staged already: {uri}"]


@pytest.fixture
def fault(emulator):
    """Adds one; when the test ends there is none."""
    url = f"{emulator.url}/emulator/faults"

    def add(text):
        assert requests.post(url, json=text, timeout=30).status_code == 201

    yield add
    requests.delete(url, timeout=30)


@pytest.mark.parametrize("what", ["status=503", "status=429", "lost"])
def test_calls_that_fail_for_a_moment_are_made_again(local, buckets, fault, what):
    """Lost: the object is there, and the answer never came."""
    bucket = buckets()
    digest = artifacts.digest(str(local))
    fault(f"storage.objects.insert:{what}:count=1")
    fault(f"storage.objects.list:{what}:count=1")
    uri = artifacts.stage(str(local), f"gs://{bucket.name}", digest)
    assert contents(bucket, uri.split(bucket.name + "/")[1]) == {
        "a.txt": "a",
        "a/b.txt": "b",
        "model.joblib": "weights",
    }
    fault(f"storage.objects.delete:{what}:count=1")
    artifacts.remove(uri)
    assert contents(bucket) == {}


def test_missing_rights_are_told_with_the_role(local, buckets, fault):
    bucket = buckets()
    fault("storage.objects.insert:status=403:message='someone lacks storage.objects.create'")
    with pytest.raises(DeployError, match=f"{bucket.name} may not be used: .*lacks.*roles/storage.objectAdmin"):
        artifacts.stage(str(local), f"gs://{bucket.name}", artifacts.digest(str(local)))


def test_what_was_cut_short_or_spoilt_is_mended(local, buckets):
    bucket = buckets()
    digest = artifacts.digest(str(local))
    prefix = f"cpr-kit/artifacts/{digest}/"
    fill(bucket, {f"{prefix}a.txt": "a", f"{prefix}a/b.txt": "x", f"{prefix}stray": "stray", "other": "stays"})
    kept = bucket.get_blob(f"{prefix}a.txt").generation
    lines = []
    artifacts.stage(str(local), f"gs://{bucket.name}", digest, lines.append)
    assert contents(bucket, prefix) == {"a.txt": "a", "a/b.txt": "b", "model.joblib": "weights"}
    assert bucket.get_blob(f"{prefix}a.txt").generation == kept
    assert lines[0].startswith("staging 2 of 3 files")
    assert contents(bucket)["other"] == "stays"


def test_a_folder_that_changed_since_is_not_staged(local, buckets):
    bucket = buckets()
    digest = artifacts.digest(str(local))
    (local / "a.txt").write_text("changed")
    with pytest.raises(DeployError, match="changed after they were looked at"):
        artifacts.stage(str(local), f"gs://{bucket.name}", digest)
    assert contents(bucket) == {}


def test_a_file_that_changes_as_it_is_sent_is_noticed(local, buckets, monkeypatch):
    """The name would say something else than what is there."""
    bucket = buckets()
    digest = artifacts.digest(str(local))
    send = artifacts._uploaded

    def changing(blob, one):
        if one.name == "a.txt":
            one.source.write_text("b")
        send(blob, one)

    monkeypatch.setattr(artifacts, "_uploaded", changing)
    with pytest.raises(DeployError, match=r"a\.txt is not what was sent there"):
        artifacts.stage(str(local), f"gs://{bucket.name}", digest)


def test_objects_have_a_digest_too(buckets):
    bucket = buckets()
    fill(bucket, {"model/a": "a", "model/b/c": "c", "model2/x": "x"})
    bucket.blob("model/").upload_from_string("")  # the console's folder
    first = artifacts.digest(f"gs://{bucket.name}/model")
    assert artifacts.digest(f"gs://{bucket.name}/model/") == first
    fill(bucket, {"model2/x": "y"})
    assert artifacts.digest(f"gs://{bucket.name}/model") == first, "gs://b/model is not gs://b/model2"
    twin = buckets()
    fill(twin, {"elsewhere/a": "a", "elsewhere/b/c": "c"})
    assert artifacts.digest(f"gs://{twin.name}/elsewhere") == first
    fill(bucket, {"model/a": "A"})
    assert artifacts.digest(f"gs://{bucket.name}/model") != first


def test_objects_are_staged_to_another_region_without_this_machine(buckets):
    here, there = buckets("us-central1"), buckets()
    fill(here, {"m/a": "a", "m/b/c": "c", "m2/x": "x"})
    digest = artifacts.digest(f"gs://{here.name}/m")
    uri = artifacts.stage(f"gs://{here.name}/m", f"gs://{there.name}", digest)
    assert contents(there, f"cpr-kit/artifacts/{digest}/") == {"a": "a", "b/c": "c"}
    assert artifacts.digest(uri) == digest
    fill(here, {"m/a": "changed"})
    with pytest.raises(DeployError, match="changed after"):
        artifacts.stage(f"gs://{here.name}/m", f"gs://{there.name}", digest)


def test_what_is_not_there_is_said(local, buckets):
    bucket = buckets()
    with pytest.raises(DeployError, match="no objects below"):
        artifacts.digest(f"gs://{bucket.name}/none")
    with pytest.raises(DeployError, match="no bucket gs://dep-none"):
        artifacts.digest("gs://dep-none/model")
    with pytest.raises(DeployError, match="gcloud storage buckets create gs://dep-none --location=europe-west4"):
        artifacts.stage(str(local), "gs://dep-none", artifacts.digest(str(local)), region=REGION)
    for uri in ("gs://", "gs:///m", "gs://UPPER/m", "s3://b/m"):
        with pytest.raises(ConfigError, match="no place in Cloud Storage"):
            artifacts.stage(str(local), uri, "0" * 64)


@pytest.mark.parametrize(
    ("location", "warned"), [("europe-west4", False), ("EU", False), ("us-central1", True), ("US", True)]
)
def test_a_bucket_elsewhere_is_warned_of(local, buckets, location, warned):
    bucket, lines = buckets(location), []
    artifacts.stage(str(local), f"gs://{bucket.name}", artifacts.digest(str(local)), lines.append, region=REGION)
    assert any(line.startswith("warning: ") for line in lines) is warned


def test_only_what_was_staged_is_removed(local, buckets):
    bucket = buckets()
    digest = artifacts.digest(str(local))
    fill(bucket, {"p/cpr-kit/artifacts/note": "a note", "p/mine": "mine"})
    uri = artifacts.stage(str(local), f"gs://{bucket.name}/p", digest)
    for other in (f"gs://{bucket.name}/p/", f"gs://{bucket.name}/p/cpr-kit/artifacts/", uri.rstrip("/"), "gs://b/m"):
        with pytest.raises(ConfigError, match="no staged folder"):
            artifacts.remove(other)
    artifacts.remove(uri)
    artifacts.remove(uri)
    assert set(contents(bucket)) == {"p/cpr-kit/artifacts/note", "p/mine"}
    artifacts.stage(str(local), f"gs://{bucket.name}/p", digest)
    artifacts.remove_all(f"gs://{bucket.name}/p")
    assert set(contents(bucket)) == {"p/mine"}
    artifacts.remove_all("gs://dep-none/p")
