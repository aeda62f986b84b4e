"""NVIDIA's tritonserver with a Python backend in a container: by `LocalModel.triton`, and deployed on the emulator."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud import aiplatform

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.config import Config
from cpr_kit.emulator.program import emulate
from cpr_kit.engine import inside
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.harness import checks
from cpr_kit.harness.target import Target, samples_of

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

FOLDER = Path(__file__).parents[2] / "containers" / "triton"
IMAGE = "us-central1-docker.pkg.dev/my-project/cpr-kit-triton/server:latest"
FLOWERS = (FOLDER / "requests" / "two_flowers.json").read_bytes()
EXPECTED = json.loads((FOLDER / "requests" / "two_flowers.expected.json").read_bytes())
JSON = {"Content-Type": "application/json"}
MEMORY = 'import os; found = os.statvfs("/dev/shm"); print(found.f_frsize * found.f_blocks >> 20)'


def to(model):
    return {"x-vertex-ai-triton-redirect": f"v2/models/{model}/infer", "Content-Type": "application/octet-stream"}


def outputs(answer):
    assert answer.status_code == 200, answer.text
    return {each["name"]: each["data"] for each in answer.json()["outputs"]}


WANTED = {each["name"]: each["data"] for each in EXPECTED["outputs"]}
PROBABILITIES = pytest.approx(WANTED["probabilities"], abs=1e-5)


@pytest.fixture(scope="module")
def image():
    """It stays, as that of TensorFlow Serving does."""
    LocalModel.build(FOLDER, engine=DockerEngine(), tag=IMAGE)
    return IMAGE


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    shutil.copytree(FOLDER / "models", folder / "models", ignore=shutil.ignore_patterns("weights.json", "__pycache__"))
    subprocess.run([sys.executable, FOLDER / "train.py", folder / "models"], check=True, capture_output=True)
    folder.chmod(0o755)  # the server's user is another one
    return folder / "models"


def triton(models, image, model="ensemble", **options):
    return LocalModel.triton(models, model, image, engine=DockerEngine(), **options)


def test_all_models_of_a_repository_at_vertex_ais_routes(image, models):
    model = triton(models, image, redirecting=True, shared_memory_mb=96)
    with model.deploy_to_local_endpoint() as endpoint:
        assert endpoint.run_health_check().status_code == 200
        found = outputs(endpoint.raw_predict(FLOWERS, JSON))
        assert found == {"probabilities": PROBABILITIES, "species": WANTED["species"]}
        assert outputs(endpoint.raw_predict(FLOWERS, to("iris"))) == {"probabilities": PROBABILITIES}
        refused = endpoint.raw_predict(FLOWERS, to("roses"))
        assert (refused.status_code, "'roses' is not found" in refused.text) == (404, True)
        assert inside.ask(endpoint.container, MEMORY).strip() == "96"
        found = checks.run(Target.of(endpoint), samples_of(Config.read(FOLDER)))
    assert [(check.name, check.detail) for check in found if check.severity == "breach"] == []


def test_one_model_by_its_own_routes(image, models, tmp_path):
    tmp_path.chmod(0o755)
    shutil.copytree(models / "iris", tmp_path / "one" / "iris")
    with triton(tmp_path / "one", image, "iris").deploy_to_local_endpoint() as endpoint:
        assert endpoint.serving_container_predict_route == "/v2/models/iris/infer"
        assert endpoint.run_health_check().status_code == 200
        assert outputs(endpoint.raw_predict(FLOWERS, JSON)) == {"probabilities": PROBABILITIES}


def test_one_model_among_others_by_its_own_routes(image, models):
    with triton(models, image, "iris").deploy_to_local_endpoint() as endpoint:
        assert outputs(endpoint.raw_predict(FLOWERS, JSON)) == {"probabilities": PROBABILITIES}


def test_deployed_on_the_emulator_and_asked_by_raw_predict(image, models):
    with emulate(engine="docker", project="my-project"):
        aiplatform.init(project="my-project", location="us-central1")
        spec = triton(models, image, redirecting=True).spec
        model = aiplatform.Model.upload(
            display_name="triton",
            artifact_uri=str(models),
            serving_container_image_uri=image,
            serving_container_args=list(spec.args),
            serving_container_shared_memory_size_mb=96,
        )
        endpoint = model.deploy(machine_type="n1-standard-4")
        found = outputs(endpoint.raw_predict(FLOWERS, JSON))
        assert found == {"probabilities": PROBABILITIES, "species": WANTED["species"]}
        assert outputs(endpoint.raw_predict(FLOWERS, to("iris"))) == {"probabilities": PROBABILITIES}
        endpoint.delete(force=True)
        model.delete()
