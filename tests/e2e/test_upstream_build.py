"""A build as google.cloud.aiplatform.prediction spells it, with classes and no cpr.toml."""

import importlib
import shutil

import pytest

from cpr_kit import LocalModel

IMAGE = "us-central1-docker.pkg.dev/my-project/cpr-kit-e2e/upstream:latest"


@pytest.mark.engine
def test_build_cpr_model_takes_classes_of_the_folder(variant, engine_named, importable, tmp_path):
    folder = tmp_path / "src"
    shutil.copytree(variant("sklearn_preprocessor"), folder)
    (folder / "cpr.toml").unlink()
    with importable(folder):
        model = LocalModel.build_cpr_model(
            str(folder),
            IMAGE,
            predictor=importlib.import_module("predictor").IrisPredictor,
            preprocessor=importlib.import_module("preprocess").Scaler,
            requirements_path=str(folder / "requirements.txt"),
            base_image="python:3.11-slim",
            engine=engine_named("docker"),
        )

    try:
        assert model.get_serving_container_spec().image_uri == IMAGE
        with model.deploy_to_local_endpoint(artifact_uri=str(folder / "model")) as endpoint:
            response = endpoint.predict(
                request_file=str(folder / "requests" / "two_rows.json"), headers={"Content-Type": "application/json"}
            )
            assert (response.status_code, response.json()) == (200, {"predictions": ["versicolor", "setosa"]})
            assert endpoint.run_health_check().status_code == 200
    finally:
        engine_named("docker").remove_image(IMAGE)
