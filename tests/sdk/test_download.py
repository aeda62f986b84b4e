"""What `download_model_artifacts` puts into the working directory."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "runtime"))

from bucket_server import BucketServer

from cpr_kit.errors import StartError
from cpr_kit.runtime import artifacts
from cpr_kit.sdk.download import download_model_artifacts


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "app"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    objects = {"model/model.joblib": b"1", "model/sub/labels.json": b"2", "model2/model.joblib": b"3", "top.txt": b"4"}
    with BucketServer(**objects) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.environ["STORAGE_EMULATOR_HOST"])
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        artifacts._downloaded.cache_clear()
        yield server
        artifacts._downloaded.cache_clear()


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def model(folder):
    (folder / "sub").mkdir(parents=True)
    (folder / "model.joblib").write_text("1")
    (folder / "sub" / "labels.json").write_text("2")
    return folder


def test_a_folder_is_copied(here, tmp_path):
    origin = model(tmp_path / "model")

    download_model_artifacts(str(origin))

    assert files(here) == {"model.joblib": "1", "sub/labels.json": "2"}
    (here / "model.joblib").write_text("changed")
    assert (origin / "model.joblib").read_text() == "1"


def test_what_was_there_is_replaced_and_the_rest_stays(here, tmp_path):
    (here / "model.joblib").write_text("old")
    (here / "predictor.py").write_text("x = 1")

    download_model_artifacts(str(model(tmp_path / "model")))
    download_model_artifacts(str(tmp_path / "model"))

    assert files(here) == {"model.joblib": "1", "predictor.py": "x = 1", "sub/labels.json": "2"}


def test_links_are_followed(here, tmp_path):
    origin = model(tmp_path / "model")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "model").symlink_to(origin)
    (tmp_path / "linked" / "model.joblib").symlink_to(origin / "model.joblib")

    download_model_artifacts(str(tmp_path / "linked"))

    assert files(here) == {"model.joblib": "1", "model/model.joblib": "1", "model/sub/labels.json": "2"}
    assert not (here / "model.joblib").is_symlink()


def test_a_single_file_is_copied(here, tmp_path):
    download_model_artifacts(str(model(tmp_path / "model") / "model.joblib"))

    assert files(here) == {"model.joblib": "1"}


@pytest.mark.parametrize("uri", ["", ".", "{here}"])
def test_a_model_in_the_working_directory_stays_as_it_is(here, uri):
    (here / "model.joblib").write_text("1")

    download_model_artifacts(uri.format(here=here))

    assert files(here) == {"model.joblib": "1"}


def test_a_folder_that_is_not_there_is_told(here):
    with pytest.raises(StartError, match="does not exist"):
        download_model_artifacts("nothing")


@pytest.mark.parametrize("uri", ["gs://bucket/model", "gs://bucket/model/"])
def test_a_folder_of_a_bucket_ends_at_its_slash(here, bucket, uri):
    download_model_artifacts(uri)

    assert files(here) == {"model.joblib": "1", "sub/labels.json": "2"}


def test_a_whole_bucket_and_one_object(here, bucket):
    download_model_artifacts("gs://bucket")
    assert set(files(here)) == {"model/model.joblib", "model/sub/labels.json", "model2/model.joblib", "top.txt"}

    download_model_artifacts("gs://bucket/model2/model.joblib")
    assert (here / "model.joblib").read_text() == "3"


def test_a_predictor_may_write_into_what_was_downloaded(here, bucket):
    """As that of scenario 1 does, which downloads the same file once more by itself."""
    download_model_artifacts("gs://bucket/model")
    (here / "model.joblib").write_text("changed in place")

    download_model_artifacts("gs://bucket/model")

    assert (here / "model.joblib").read_text() == "1"
    assert len(bucket.downloads("model/model.joblib")) == 1


def test_workers_may_place_the_same_files_at_the_same_time(here, tmp_path):
    origin = model(tmp_path / "model")
    (origin / "model.joblib").write_bytes(os.urandom(1 << 20))
    code = f"from cpr_kit.sdk.download import download_model_artifacts as d\nfor _ in range(20): d({str(origin)!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=here) for _ in range(4)]
    sizes = set()
    while any(process.poll() is None for process in processes):
        if (here / "model.joblib").exists():
            sizes.add((here / "model.joblib").stat().st_size)

    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    assert sizes == {1 << 20}
    assert (here / "model.joblib").read_bytes() == (origin / "model.joblib").read_bytes()
    assert sorted(path.name for path in here.iterdir()) == ["model.joblib", "sub"]


def test_where_nothing_can_be_written_another_folder_takes_the_place(here, tmp_path):
    """As with a read-only root: the code's own files are found under the same names, and modules still import."""
    model(tmp_path / "model")
    (here / "labels.json").write_text("its own")
    (here / "model.joblib").write_text("hidden by the artifact")
    (here / "own.py").write_text("x = 7")
    code = f"""
import os
os.access = lambda path, mode: mode != os.W_OK
import sys, pathlib
from cpr_kit.sdk.download import download_model_artifacts
download_model_artifacts({str(tmp_path / "model")!r})
import own
print(own.x, *(pathlib.Path(name).read_text() for name in ("model.joblib", "sub/labels.json", "labels.json")), sep="|")
assert pathlib.Path.cwd() != pathlib.Path({str(here)!r})
"""
    out = subprocess.check_output([sys.executable, "-c", code], cwd=here, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})  # fmt: skip

    assert out.strip() == "7|1|2|its own"
    assert (here / "model.joblib").read_text() == "hidden by the artifact"
    made = next(tmp_path.glob("cpr-working-*"))
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
