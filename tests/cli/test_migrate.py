"""`cpr migrate` as a user calls it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

PREDICTOR = """
from google.cloud.aiplatform.prediction.predictor import Predictor


class Doubles(Predictor):
    def load(self, artifacts_uri):
        self.factor = 2

    def predict(self, instances):
        return {"predictions": [self.factor * each for each in instances["instances"]]}
"""
BUILD = """
from google.cloud.aiplatform.prediction import LocalModel
from predictor import Doubles

LocalModel.build_cpr_model(".", "eu.gcr.io/p/doubles", predictor=Doubles, base_image="python:3.11-slim")
"""


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "around" / "doubles"
    place.mkdir(parents=True)
    (place / "predictor.py").write_text(PREDICTOR)
    (place / "build.py").write_text(BUILD)
    (place / "instances.json").write_text('{"instances": [1, 2]}')
    (place / "requirements.txt").write_text("google-cloud-aiplatform[prediction]>=1.16\n")
    return place


def test_it_writes_cpr_toml_and_says_where_things_were_found(cpr, folder):
    code = (folder / "predictor.py").read_bytes()

    done = cpr("migrate", folder)

    assert done.returncode == 0, done.stderr
    text = (folder / "cpr.toml").read_text()
    assert text in done.stdout
    assert 'predictor    = "predictor:Doubles"  # predictor.py:5, derives from Predictor\n' in text
    assert 'base = "python:3.11-slim"  # build.py:5\n' in text
    assert "cpr.toml written" in done.stdout
    assert (folder / "predictor.py").read_bytes() == code


def test_it_never_writes_over_a_cpr_toml_unasked(cpr, folder):
    (folder / "cpr.toml").write_text("# mine\n")

    done = cpr("migrate", folder)
    shown = cpr("migrate", folder, "--no-write", "--json")

    assert (done.returncode, (folder / "cpr.toml").read_text()) == (2, "# mine\n")
    assert "--force writes over it" in done.stderr
    assert json.loads(shown.stdout)["written"] is None
    assert "[model]" in json.loads(shown.stdout)["toml"]
    assert cpr("migrate", folder, "--force").returncode == 0
    assert "[model]" in (folder / "cpr.toml").read_text()


def test_the_migrated_project_answers(cpr, folder):
    cpr("migrate", folder)

    asked = cpr("predict", folder, "--json", folder / "instances.json", "--engine", "process")

    assert (asked.returncode, asked.stdout) == (0, '{"predictions":[2,4]}\n'), asked.stderr


def test_several_candidates_end_with_the_flag_that_chooses(cpr, folder):
    (folder / "build.py").unlink()
    (folder / "other.py").write_text(PREDICTOR.replace("Doubles", "Other"))

    done = cpr("migrate", folder)

    assert done.returncode == 2
    assert "predictor:Doubles (predictor.py:5), " in done.stderr or "other:Other (other.py:5), " in done.stderr
    assert "choose one with --predictor" in done.stderr
    assert not (folder / "cpr.toml").exists()
    chosen = cpr("migrate", folder, "--predictor", "Other", "--json")
    assert json.loads(chosen.stdout)["found"]["predictor"] == "other.py:5, derives from Predictor"


def test_a_folder_without_any_predictor_is_told_what_is_looked_for(cpr, tmp_path):
    done = cpr("migrate", tmp_path)
    assert done.returncode == 2
    assert "no class here derives from Predictor or Handler of google.cloud.aiplatform.prediction" in done.stderr


def test_compare_without_an_engine_says_what_is_missing(cpr, folder):
    done = cpr("migrate", folder, "--no-write", "--compare", DOCKER_HOST="unix:///no/such/socket")
    assert done.returncode == 3
    assert "no Docker Engine answers" in done.stderr


@pytest.mark.engine
def test_ctrl_c_ends_a_comparison_and_leaves_nothing(folder, tmp_path, until):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    log = tmp_path / "log"
    command = [sys.executable, "-m", "cpr_kit", "migrate", str(folder), "--no-write", "--compare", "--quick", "-v"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, env={**os.environ, "TMPDIR": str(temporary)}
        )
    try:
        until(lambda: "google-cloud-aiplatform[prediction]" in log.read_text(), seconds=90)
        tags = compared()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130, log.read_text()[-2000:]
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while list(temporary.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(temporary.iterdir()) == []
    assert compared() & tags == set()


def compared():
    """The names that comparisons have given to images."""
    import contextlib

    import docker

    with contextlib.closing(docker.from_env()) as client:
        return {tag for image in client.images.list() for tag in image.tags if tag.startswith("cpr-local/compare-")}
