"""Raw prediction on an estimator-style SavedModel, by containers/tf_raw on the emulator."""

import json
import runpy
import sys

import pytest
import tf_world
from google.cloud import aiplatform

from cpr_kit.emulator.program import emulate

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

FOLDER = tf_world.CONTAINERS / "tf_raw"
PREBUILT = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
REQUEST = (FOLDER / "requests" / "dream.json").read_bytes()
EXPECTED = json.loads((FOLDER / "requests" / "dream.expected.json").read_bytes())


@pytest.fixture(scope="module")
def vertex(tf_image):
    with tf_world.tagged(PREBUILT), emulate(engine="docker", project="my-project") as emulator:
        yield emulator


@pytest.fixture(scope="module")
def endpoint(vertex, tf_models):
    aiplatform.init(project="my-project", location="us-central1")
    model = aiplatform.Model.upload(
        display_name="penguins",
        artifact_uri=str(tf_models / "penguins"),
        serving_container_image_uri=PREBUILT,
    )
    endpoint = model.deploy(machine_type="n1-standard-4")
    yield endpoint
    endpoint.delete(force=True)
    model.delete()


def test_a5_1_raw_prediction_chooses_the_signature(endpoint):
    answer = endpoint.raw_predict(body=REQUEST, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    [penguin] = answer.json()["predictions"]
    assert sum(penguin["probabilities"]) == pytest.approx(1, abs=1e-6)
    assert penguin["classes"] == ["Adelie"]
    assert penguin["class_ids"] == [0]
    assert penguin["logits"] == pytest.approx(EXPECTED["predictions"][0]["logits"], rel=1e-3)


def test_a5_1_prediction_takes_the_default_signature_and_names_its_inputs(endpoint):
    from google.api_core.exceptions import BadRequest  # over gRPC its FailedPrecondition

    with pytest.raises(BadRequest) as raised:
        endpoint.predict(instances=json.loads(REQUEST)["instances"])
    message = str(raised.value)
    assert "signature serving_default takes" in message
    assert "flipper_length_mm (float32 [-1])" in message
    assert "body_mass_g (float32 [-1])" in message
    given = [{"flipper_length_mm": 184.0, "body_mass_g": 3475.0}]
    [scores] = endpoint.predict(instances=given).predictions
    assert sum(scores) == pytest.approx(1, abs=1e-6)


def test_a5_1_an_unknown_signature_is_answered_with_the_known_ones(endpoint):
    body = json.dumps({**json.loads(REQUEST), "signature_name": "predicts"}).encode()
    answer = endpoint.raw_predict(body=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        'Serving signature name: "predicts" not found in signature def; it has: predict, serving_default'
    )


def test_the_program_of_the_folder_runs_on_the_emulator(vertex, tf_models, monkeypatch, capsys):
    arguments = ["us-central1", "my-project", str(tf_models / "penguins"), str(FOLDER / "requests" / "dream.json")]
    monkeypatch.setattr(sys, "argv", ["on_vertex.py", *arguments])
    runpy.run_path(str(FOLDER / "on_vertex.py"), run_name="__main__")
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith('{"predictions"')]
    assert json.loads(line)["predictions"][0]["classes"] == ["Adelie"]
    assert aiplatform.Endpoint.list(filter="display_name=penguins") == []
