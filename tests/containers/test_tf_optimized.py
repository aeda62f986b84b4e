"""A9.3 and A9.4: what is compiled when, by the counter in the server's log. Times are in benchmarks/, not here."""

import json
import re

import numpy as np
import pytest

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.engine.docker import DockerEngine

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

BATCHING = """
max_batch_size { value: 8 }
batch_timeout_micros { value: 0 }
num_batch_threads { value: 1 }
allowed_batch_sizes: 4  # a request of one row is padded to these
allowed_batch_sizes: 8
"""


def serving(image, model, *args):
    made = LocalModel.tf_serving(model, "dense", image=image, args=args, engine=DockerEngine())
    return made.deploy_to_local_endpoint()


def compilations(endpoint):
    return re.findall(r"compiled signature \"serving_default\" for x \((\d+), 16\)", endpoint.container.logs())


@pytest.fixture(scope="module")
def saved(tf_models):
    """By the number of rows: instances, and what the saved model answers without any server."""
    found = json.loads((tf_models / "dense.json").read_text())
    return {int(count): (each["instances"], each["predictions"]) for count, each in found.items()}


@pytest.fixture(scope="module")
def lossy(tf_image, tf_models):
    """The preset for Vertex AI, on the image that stands for the runtime here."""
    model = LocalModel.optimized_tensorflow(tf_models / "cold" / "1", "lossy", image=tf_image, engine=DockerEngine())
    with model.deploy_to_local_endpoint() as endpoint:
        yield endpoint


def asked(endpoint, signature, **body):
    return endpoint.raw(json.dumps({"signature_name": signature, **body}).encode(), "application/json")


def test_a9_3_without_a_warm_up_file_each_first_request_compiles(lossy, saved):
    assert compilations(lossy) == []
    for count in (1, 3, 1, 3):
        lossy.predict(instances=saved[count][0])
    assert compilations(lossy) == ["1", "3"]


def test_a_reduced_precision_changes_answers_a_little(lossy, saved):
    instances, expected = saved[8]
    difference = np.abs(np.array(lossy.predict(instances=instances).predictions) - expected).max()
    assert 1e-6 < difference < 2e-2
    assert "rounded 1 weights to bfloat16" in lossy.container.logs()


def test_an_input_that_has_a_default_may_be_left_out(lossy):
    row = [0.5] * 16
    assert asked(lossy, "scaled", instances=[row, row]).json() == {"predictions": [16, 16]}
    assert asked(lossy, "scaled", inputs={"x": [row], "scale": 3}).json() == {"outputs": [24]}
    answer = asked(lossy, "scaled", inputs={"scale": 3})
    assert (answer.status_code, "x (float32 [-1,16])" in answer.json()["error"]) == (400, True)
    assert "scale (float32 []), which may be left out" in answer.json()["error"]


def test_complex_numbers_have_no_form_in_json(lossy):
    answer = asked(lossy, "wave", instances=[[0.5] * 16])
    assert answer.status_code == 400
    assert answer.json() == {"error": "output w is complex64, which JSON has no form for; ask over gRPC"}


def test_a9_3_and_a9_4_after_the_warm_up_no_batch_size_compiles(tf_image, tf_models, saved):
    model = tf_models / "warm"
    (model / "1" / "config").mkdir()
    (model / "1" / "config" / "batching_parameters_config").write_text(BATCHING)
    arguments = (
        "--allow_precompilation=true",
        "--enable_batching=true",
        "--batching_parameters_file=$(AIP_STORAGE_URI)/1/config/batching_parameters_config",
    )
    with serving(tf_image, model, *arguments) as endpoint:
        assert compilations(endpoint) == ["4", "8"]
        for instances, expected in saved.values():
            found = endpoint.predict(instances=instances).predictions
            np.testing.assert_allclose(found, expected, atol=1e-6)
        assert compilations(endpoint) == ["4", "8"]
        answer = endpoint.raw(json.dumps({"instances": [[0.5] * 16] * 9}).encode(), "application/json")
        assert answer.status_code == 400
        scaled = asked(endpoint, "scaled", instances=[[0.5] * 16] * 3)  # what is left out is in no batch
        assert scaled.json() == {"predictions": [16, 16, 16]}
        assert answer.json() == {"error": "Task size 9 is larger than maximum input batch size 8"}
