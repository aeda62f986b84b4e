"""A7.5: the REST API of the stand-in, held against what TensorFlow Serving's guide, "RESTful API", says."""

import json

import pytest
import requests
import tf_world
from click.testing import CliRunner

from cpr_kit.cli.inspect import command as inspect
from cpr_kit.cli.predict import command as predict
from cpr_kit.compat.local_model import LocalModel
from cpr_kit.contract import ContainerSpec
from cpr_kit.engine.docker import DockerEngine

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

PENGUIN = json.loads((tf_world.CONTAINERS / "tf_raw" / "requests" / "dream.json").read_bytes())["instances"][0]
STATUS = {
    "model_version_status": [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
}


@pytest.fixture(scope="module")
def served(tf_image, tf_models):
    """The penguins, as the prebuilt image serves them: the model's folder itself, under the name default."""
    spec = ContainerSpec(image_uri=tf_image, predict_route="/v1/models/default:predict", health_route="/ping")
    model = LocalModel(spec, artifact_uri=str(tf_models / "penguins"), engine=DockerEngine())
    with model.deploy_to_local_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def get(served):
    return lambda path: requests.get(f"{served.url}{path}", timeout=30)


@pytest.fixture
def post(served):
    """post(body) -> the answer on the model's own route, or on another."""

    def ask(body, path="/v1/models/default:predict"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(f"{served.url}{path}", data=data, timeout=30)

    return ask


@pytest.mark.parametrize("path", ["/v1/models/default", "/v1/models/default/versions/1", "/ping"])
def test_a7_5_status(get, path):
    answer = get(path)
    assert (answer.status_code, answer.json()) == (200, STATUS)
    assert answer.headers["Content-Type"] == "application/json"


def test_a7_5_metadata(get):
    found = get("/v1/models/default/metadata").json()
    assert found["model_spec"] == {"name": "default", "signature_name": "", "version": "1"}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures.keys() == {"predict", "serving_default"}
    assert signatures["predict"]["inputs"].keys() == PENGUIN.keys()
    island = signatures["predict"]["inputs"]["island"]
    assert (island["dtype"], island["tensor_shape"]["dim"]) == ("DT_STRING", [{"size": "-1", "name": ""}])
    assert signatures["predict"]["method_name"] == "tensorflow/serving/predict"


def test_a7_5_rows_and_columns_agree(post):
    rows = post({"signature_name": "predict", "instances": [PENGUIN, {**PENGUIN, "body_mass_g": 6000}]}).json()
    columns = {name: [value, value] for name, value in PENGUIN.items()} | {"body_mass_g": [3475.0, 6000]}
    found = post({"signature_name": "predict", "inputs": columns}).json()
    assert rows.keys() == {"predictions"}
    assert found.keys() == {"outputs"}
    assert rows["predictions"][0].keys() == {"probabilities", "logits", "class_ids", "classes"}
    for name, value in found["outputs"].items():
        assert value == [row[name] for row in rows["predictions"]]


def test_a7_5_a_single_output_stands_without_its_name(post):
    given = {"flipper_length_mm": 184.0, "body_mass_g": 3475}
    rows = post({"instances": [given]}).json()["predictions"]
    assert len(rows) == 1
    assert len(rows[0]) == 3
    assert post({"inputs": {name: [value] for name, value in given.items()}}).json()["outputs"] == rows


def test_a7_5_bytes_in_base64_are_text_as_well(post):
    given = {**PENGUIN, "island": {"b64": "RFJFQU0="}}
    plain, encoded = (post({"signature_name": "predict", "instances": [each]}).json() for each in (PENGUIN, given))
    assert plain == encoded


def test_a7_5_a_version_can_be_named(post):
    body = {"signature_name": "predict", "instances": [PENGUIN]}
    answer = post(body, "/v1/models/default/versions/1:predict")
    assert answer.json() == post(body).json()


@pytest.mark.parametrize("signature", ["predict", "serving_default"])
def test_a5_2_what_inspect_prints_is_answered_as_it_stands(served, tf_models, tmp_path, signature):
    arguments = [str(tf_models / "penguins"), "--signature", signature]
    lines = CliRunner().invoke(inspect, arguments, catch_exceptions=False).stdout.splitlines()
    body = tmp_path / "body.json"
    body.write_text(lines[lines.index(f'a body for "{signature}":') + 1])
    asked = [f"{served.url}/v1/models/default:predict", "--json", str(body)]
    [answer] = json.loads(CliRunner().invoke(predict, asked, catch_exceptions=False).stdout)["predictions"]
    assert sum(answer["probabilities"] if signature == "predict" else answer) == pytest.approx(1, abs=1e-6)


TAKES = "signature serving_default takes body_mass_g (float32 [-1]), flipper_length_mm (float32 [-1])"
TWO = {"flipper_length_mm": 184.0, "body_mass_g": 3475.0}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"instances": [', "JSON Parse error: Expecting value at offset: 15"),
        (b"[1]", "Malformed request: the body must be a JSON object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": {}}, "Expecting 'instances' value to be an list/array"),
        ({"signature_name": 1, "instances": [TWO]}, "'signature_name' key must be a string value."),
        (
            {"signature_name": "x", "instances": [TWO]},
            'Serving signature name: "x" not found in signature def; it has: predict, serving_default',
        ),
        (
            {"instances": [TWO, {"body_mass_g": 1}]},
            "Failed to process element: 1 of 'instances' list. JSON object: does not have named input: "
            f"flipper_length_mm; {TAKES}",
        ),
        (
            {"instances": [{**TWO, "body_mass_g": "heavy"}]},
            'JSON Value: "heavy" Type: String is not of expected type: float32 (input body_mass_g)',
        ),
        ({"inputs": {**TWO, "body_mass_g": [[1.0]]}}, "input body_mass_g has the shape [1,1], expecting [-1]"),
    ],
)
def test_a7_5_faults_are_400(post, body, said):
    answer = post(body)
    assert (answer.status_code, answer.json()) == (400, {"error": said})


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v1/models/other:predict", 404, "Servable not found for request: Latest(other)"),
        ("/v1/models/default/versions/7:predict", 404, "Servable not found for request: Specific(default, 7)"),
        ("/v1/models/default:predicts", 400, "Malformed request: POST /v1/models/default:predicts"),
        ("/predict", 404, "Malformed request: POST /predict"),
        ("/v1/models/default:classify", 501, ":classify takes tf.Example, which is not read here; use :predict"),
    ],
)
def test_a7_5_routes_that_do_not_serve(post, path, status, said):
    answer = post({"instances": [TWO]}, path)
    assert (answer.status_code, answer.json()) == (status, {"error": said})


def test_a7_5_a_model_that_is_not_there_has_no_status(get):
    for path, said in (
        ("/v1/models/other", "Could not find any versions of model other"),
        ("/v1/models/default/versions/7", "Could not find version 7 of model default"),
    ):
        answer = get(path)
        assert (answer.status_code, answer.json()) == (404, {"error": said})
