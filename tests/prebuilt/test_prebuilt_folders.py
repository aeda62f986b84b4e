"""The specifications of the folders under containers/ and of the tutorials' folders here, field by field."""

from pathlib import Path

import pytest

from cpr_kit import serving_spec
from cpr_kit.config import Config
from cpr_kit.contract import ContainerSpec

ROOT = Path(__file__).parents[2]
KITS = {"ports": (8080,), "predict_route": "/predict", "health_route": "/health"}


@pytest.mark.parametrize(
    ("folder", "spec"),
    [
        (
            "containers/tf_serving",
            ContainerSpec(
                image_uri="i",
                command=("/usr/bin/tensorflow_model_server",),
                args=(
                    "--model_name=colours",
                    "--model_base_path=$(AIP_STORAGE_URI)",
                    "--rest_api_port=8080",
                    "--port=8500",
                    "--file_system_poll_wait_seconds=31540000",
                ),
                ports=(8080,),
                health_route="/v1/models/colours",
                predict_route="/v1/models/colours:predict",
            ),
        ),
        (
            "containers/triton",
            ContainerSpec(
                image_uri="i",
                args=(
                    "tritonserver",
                    "--model-repository=$(AIP_STORAGE_URI)",
                    "--vertex-ai-default-model=ensemble",
                    "--strict-model-config=true",
                ),
                shared_memory_size_mb=256,
                **KITS,  # the sample leaves them to Vertex AI; Triton serves at whatever routes and port it is told
            ),
        ),
        (
            "containers/bert_tf",
            ContainerSpec(
                image_uri="i",
                command=("/usr/bin/tensorflow_model_server",),
                args=(
                    "--model_name=bert",
                    "--model_base_path=$(AIP_STORAGE_URI)",
                    "--rest_api_port=8080",
                    "--port=8500",
                    "--file_system_poll_wait_seconds=31540000",
                    "--allow_precompilation=$(OPTIMIZED)",
                    "--allow_compression=$(OPTIMIZED)",
                ),
                env={"OPTIMIZED": "false"},
                ports=(8080,),
                health_route="/v1/models/bert",
                predict_route="/v1/models/bert:predict",
            ),
        ),
        ("containers/torch_image", ContainerSpec(image_uri="i", **KITS)),
        ("containers/fastapi_image", ContainerSpec(image_uri="i", **KITS)),
        ("containers/fastapi_iris", ContainerSpec(image_uri="i", **KITS)),
        ("tests/containers/fastapi_serve", ContainerSpec(image_uri="i", **{**KITS, "ports": (7080,)})),
    ],
)
def test_a_folders_specification_is_its_tutorials(folder, spec):
    found = serving_spec.of(Config.read(ROOT / folder, environ={}), "i")
    assert found == spec
