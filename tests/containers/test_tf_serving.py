"""TensorFlow Serving's command line in a container: on the emulator with the tutorial's arguments, and its gRPC API."""

import json
import urllib.request
from dataclasses import replace

import pytest
import tf_world
from google.cloud import aiplatform

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.emulator.program import emulate
from cpr_kit.engine import inside
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.errors import ContainerError

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

FOLDER = tf_world.CONTAINERS / "tf_serving"
PUSHED = "us-central1-docker.pkg.dev/my-project/my-docker-repo/tf_serving:cpu"
RED = json.loads((FOLDER / "requests" / "red.json").read_bytes())
SCORES = json.loads((FOLDER / "requests" / "red.expected.json").read_bytes())["predictions"][0]

# By the official stubs, in the container, where TensorFlow's messages are.
ASK_BY_GRPC = """
import base64, json, grpc, numpy as np, tensorflow as tf
from tensorflow_serving.apis import (get_model_metadata_pb2, get_model_status_pb2, model_service_pb2_grpc, predict_pb2,
    prediction_service_pb2_grpc)

channel = grpc.insecure_channel("127.0.0.1:8500")
service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
request = predict_pb2.PredictRequest()
request.model_spec.name = "colours"
request.inputs["bytes_inputs"].CopyFrom(tf.make_tensor_proto([base64.b64decode(PHOTO)]))
answer = service.Predict(request)
scores = tf.make_ndarray(answer.outputs["scores"])

def refused(change):
    other = predict_pb2.PredictRequest()
    other.CopyFrom(request)
    change(other)
    try:
        service.Predict(other)
    except grpc.RpcError as error:
        return [error.code().name, error.details()]

asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
asked.model_spec.name = "colours"
signatures = get_model_metadata_pb2.SignatureDefMap()
service.GetModelMetadata(asked).metadata["signature_def"].Unpack(signatures)
status = get_model_status_pb2.GetModelStatusRequest()
status.model_spec.name = "colours"
[line] = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status).model_version_status
print(json.dumps({
    "scores": scores.tolist(), "version": answer.model_spec.version.value, "signatures": sorted(signatures.signature_def),
    "state": get_model_status_pb2.ModelVersionStatus.State.Name(line.state),
    "model": refused(lambda each: setattr(each.model_spec, "name", "colors")),
    "version_2": refused(lambda each: setattr(each.model_spec.version, "value", 2)),
    "signature": refused(lambda each: setattr(each.model_spec, "signature_name", "predict")),
    "input": refused(lambda each: each.inputs.clear()),
    "type": refused(lambda each: each.inputs["bytes_inputs"].CopyFrom(tf.make_tensor_proto([1.5]))),
    "output": refused(lambda each: each.output_filter.append("labels")),
}))
"""


def test_a7_2_the_tutorials_arguments_on_the_emulator(tf_image, tf_models):
    name = "example_20260101000000"
    with tf_world.tagged(PUSHED), emulate(engine="docker", project="my-project"):
        aiplatform.init(project="my-project", location="us-central1")
        model = aiplatform.Model.upload(
            display_name=name,
            artifact_uri=str(tf_models / "colours"),
            serving_container_image_uri=PUSHED,
            serving_container_health_route=f"/v1/models/{name}",
            serving_container_predict_route=f"/v1/models/{name}:predict",
            serving_container_command=["/usr/bin/tensorflow_model_server"],
            serving_container_args=[
                f"--model_name={name}",
                "--model_base_path=$(AIP_STORAGE_URI)",
                "--rest_api_port=8080",
                "--port=8500",
                "--file_system_poll_wait_seconds=31540000",
            ],
            serving_container_ports=[8080],
        )
        endpoint = model.deploy(machine_type="n1-standard-4")
        answer = endpoint.predict(instances=RED["instances"])
        assert answer.predictions == [pytest.approx(SCORES, abs=1e-5)]
        endpoint.delete(force=True)
        model.delete()


@pytest.fixture(scope="module")
def served(tf_image, tf_models):
    """One container, started as the tutorial has it, with one argument more."""
    model = LocalModel.tf_serving(
        tf_models / "colours", "colours", image=tf_image, args=["--health_route=/$$(X)"], engine=DockerEngine()
    )
    with model.deploy_to_local_endpoint() as endpoint:
        yield endpoint


def test_a7_2_names_are_expanded_and_escapes_are_not(served):
    """The model was found under $(AIP_STORAGE_URI); the route that came as $$(X) is served as $(X)."""
    assert served.run_health_check().status_code == 200
    with urllib.request.urlopen(f"{served.url}/$(X)") as answer:
        assert json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE"


def test_a_jpeg_in_base64_is_decoded_by_the_models_graph(served):
    answer = served.predict(instances=RED["instances"])
    assert answer.predictions == [pytest.approx(SCORES, abs=1e-5)]


def test_a_file_that_is_no_jpeg_is_the_callers_fault(served):
    answer = served.raw(json.dumps({"instances": [{"b64": "AAAA"}]}).encode(), "application/json")
    assert answer.status_code == 400
    assert "Unknown image file format" in answer.json()["error"]


def test_predictions_by_grpc_with_the_official_stubs(served):
    photo = RED["instances"][0]["bytes_inputs"]["b64"]
    found = json.loads(inside.ask(served.container, f"PHOTO = {photo!r}\n{ASK_BY_GRPC}").splitlines()[-1])
    assert found["scores"] == [pytest.approx(SCORES, abs=1e-5)]
    assert (found["version"], found["signatures"], found["state"]) == (1, ["serving_default"], "AVAILABLE")
    assert found["model"] == ["NOT_FOUND", "Servable not found for request: Latest(colors)"]
    assert found["version_2"] == ["NOT_FOUND", "Servable not found for request: Specific(colours, 2)"]
    assert found["signature"][0] == "FAILED_PRECONDITION"
    assert '"predict" not found' in found["signature"][1]
    assert found["input"][0] == "INVALID_ARGUMENT"
    assert "Missing but required: {bytes_inputs}" in found["input"][1]
    assert found["type"][0] == "INVALID_ARGUMENT"
    assert "input bytes_inputs is float32, expecting string" in found["type"][1]
    assert found["output"][0] == "INVALID_ARGUMENT"
    assert "it has: scores" in found["output"][1]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--model_nam=x", "unknown argument: --model_nam=x"),
        ("--batching_parameters_file=/none", "is given without --enable_batching"),
    ],
)
def test_what_cannot_be_served_ends_with_its_reason(tf_image, tf_models, argument, said):
    model = LocalModel.tf_serving(tf_models / "colours", "colours", image=tf_image, engine=DockerEngine())
    model = LocalModel(replace(model.spec, args=(*model.spec.args, argument)), artifact_uri=model.artifact_uri)
    with pytest.raises(ContainerError) as raised, model.deploy_to_local_endpoint():
        pass
    assert said in raised.value.logs
    assert "exit code 255" in str(raised.value)


def test_it_ends_in_peace(served):
    """The last of this file: the container has served all the others."""
    container = served.container
    container.exec(["python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)"], 60)
    for _ in container.follow():
        pass
    assert container.exit_code() == 0
    assert "Failed" not in container.logs()
