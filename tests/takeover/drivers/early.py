"""The calls of a notebook of 2022 (sections 1 to 4): never run, only bound to the kit's signatures."""

# ruff: noqa
import os

from google.cloud import aiplatform
from google.cloud.aiplatform.prediction import LocalModel
from google.cloud.aiplatform.prediction.handler import PredictionHandler
from predictor import CprPredictor
from handler import CprHandler

USER_SRC_DIR, REGION, PROJECT_ID, LOCAL_MODEL_DIR = "src", "us-central1", "p", "model"
IMAGE = f"{REGION}-docker.pkg.dev/{PROJECT_ID}/repository/sklearn-cpr-preprocess-server"

local_model = LocalModel.create_cpr_model(
    USER_SRC_DIR,
    IMAGE,
    predictor=CprPredictor,
    requirements_path=os.path.join(USER_SRC_DIR, "requirements.txt"),
)
local_model = LocalModel.create_cpr_model(
    USER_SRC_DIR,
    IMAGE,
    predictor=CprPredictor,
    handler=CprHandler,
    requirements_path=os.path.join(USER_SRC_DIR, "requirements.txt"),
    extra_packages=["dist/mine.tar.gz"],
    no_cache=True,
)
local_model = LocalModel.create_cpr_model(
    USER_SRC_DIR, IMAGE, CprPredictor, PredictionHandler, "python:3.9", None, None
)
local_model = LocalModel.create(serving_container_image_uri=IMAGE)
local_model = LocalModel.create(
    IMAGE,
    serving_container_predict_route="/predict",
    serving_container_health_route="/health",
    serving_container_command=["python"],
    serving_container_args=["serve.py"],
    serving_container_environment_variables={"A": "1"},
    serving_container_ports=[8080],
)
local_model.get_serving_container_spec()

with local_model.deploy_to_local_endpoint(
    artifact_uri="gs://bucket/model",
    credential_path="credentials.json",
) as local_endpoint:
    predict_response = local_endpoint.predict(
        request_file="instances.json",
        headers={"Content-Type": "application/json"},
    )
    health_check_response = local_endpoint.run_health_check()

local_endpoint.print_container_logs(show_all=True)

model = local_model.upload(
    display_name="my-model",
    artifact_uri="gs://bucket/model",
)
model = local_model.upload(
    "my-model",
    "gs://bucket/model",
    "description",
    instance_schema_uri="gs://bucket/instance.yaml",
    parameters_schema_uri=None,
    prediction_schema_uri=None,
    explanation_metadata=None,
    explanation_parameters=None,
    project=PROJECT_ID,
    location=REGION,
    credentials=None,
    labels={"a": "b"},
    encryption_spec_key_name=None,
    staging_bucket="gs://bucket",
    sync=False,
)
