"""The calls of today's notebooks: never run, only bound to the kit's signatures."""

# ruff: noqa
import json
import os

from google.cloud import aiplatform
from google.cloud.aiplatform.prediction import LocalModel
from google.cloud.aiplatform.prediction.sklearn.predictor import SklearnPredictor
from handler import CprHandler
from predictor import CprPredictor

aiplatform.init(project="p", location="us-central1")
SRC, IMAGE = "src_dir_sdk", "us-central1-docker.pkg.dev/p/repository/image:latest"

local_model = LocalModel.build_cpr_model(
    SRC,
    IMAGE,
    predictor=CprPredictor,
    requirements_path=os.path.join(SRC, "requirements.txt"),
)
local_model = LocalModel.build_cpr_model(
    SRC,
    IMAGE,
    predictor=CprPredictor,
    handler=CprHandler,
    base_image="python:3.10-bullseye",
    requirements_path=os.path.join(SRC, "requirements.txt"),
    extra_packages=["dist/mine.tar.gz"],
    no_cache=True,
    platform="linux/amd64",
)
local_model = LocalModel(serving_container_image_uri=IMAGE)
local_model = LocalModel(
    serving_container_image_uri="nvcr.io/nvidia/tritonserver:21.08-py3",
    serving_container_predict_route="/v2/models/pytorch/infer",
    serving_container_health_route="/v2/models/pytorch",
    serving_container_args=["tritonserver", "--model-repository=$(AIP_STORAGE_URI)"],
    serving_container_ports=[8000],
    serving_container_environment_variables={"MODEL_NAME": "m"},
    serving_container_shared_memory_size_mb=256,
)
spec = local_model.get_serving_container_spec()
local_model = LocalModel(serving_container_spec=spec)
local_model = LocalModel(spec)

with local_model.deploy_to_local_endpoint(
    artifact_uri="model",
) as local_endpoint:
    response = local_endpoint.predict(
        request_file="instances.json",
        headers={"Content-Type": "application/json"},
    )
    response = local_endpoint.predict(request=json.dumps({"instances": [[1, 2]]}), headers=None, verbose=False)
    health = local_endpoint.run_health_check(verbose=False)

local_endpoint = local_model.deploy_to_local_endpoint(
    artifact_uri="gs://bucket/model",
    credential_path="credentials.json",
    host_port="8080",
    gpu_count=1,
    gpu_device_ids=None,
    gpu_capabilities=[["utility", "compute"]],
    container_ready_timeout=600,
    container_ready_check_interval=5,
)
local_endpoint.serve()
local_endpoint.get_container_status()
local_endpoint.print_container_logs(show_all=False, message="the log")
local_endpoint.print_container_logs_if_container_is_not_running(show_all=True, message="it ended")
local_endpoint.stop()
