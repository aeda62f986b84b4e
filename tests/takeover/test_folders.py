"""Projects written against the SDK's names, as the tutorials have them, built and served unmodified without the SDK.

They were written for these tests after the tutorials' flows; what is relaxed are versions that no current Python has.
"""

import base64
import contextlib
import dataclasses
import json
import sys
from pathlib import Path

import pytest

from cpr_kit.build.source import Source
from cpr_kit.compat.local_model import LocalModel
from cpr_kit.config import Config, ModelSection
from cpr_kit.harness.endpoint import LocalEndpoint

sys.path.insert(0, str(Path(__file__).parent.parent / "runtime"))

from bucket_server import BucketServer

pytestmark = pytest.mark.heavy
ROWS = [[6.7, 3.1, 4.7, 1.5], [4.6, 3.1, 1.5, 0.2]]
EXPECTED = {"predictions": ["versicolor", "setosa"]}
JSON = {"Content-Type": "application/json"}
CSV = "".join(f"{','.join(map(str, row))}\n" for row in ROWS)
WITHOUT_SDK = """
import importlib.metadata, importlib.util
try:
    importlib.metadata.version("google-cloud-aiplatform")
except importlib.metadata.PackageNotFoundError:
    pass
else:
    raise SystemExit("the SDK is installed")
from google.cloud import aiplatform
assert "cpr_kit/sdk" in aiplatform.__file__, aiplatform.__file__
assert importlib.util.find_spec("google.cloud.aiplatform_v1") is None
"""


def asked(response):
    return response.status_code, response.json(), response.headers["content-type"]


@pytest.mark.parametrize(
    ("name", "handler", "engine"),
    [
        ("custom_preprocess", None, "process"),
        ("custom_predict", None, "process"),
        ("xgboost_online", None, "process"),
        pytest.param("custom_preprocess", None, "docker", marks=pytest.mark.engine),
    ],
)
def test_a_predictor_is_served_unmodified(project, built, name, handler, engine):
    model = built(name, engine)
    with model.deploy_to_local_endpoint(artifact_uri=str(project(name).model)) as endpoint:
        request = json.dumps({"instances": ROWS})
        assert asked(endpoint.predict(request=request, headers=JSON)) == (200, EXPECTED, "application/json")
        assert endpoint.run_health_check().status_code == 200
        assert endpoint.predict(request="{}", headers=JSON).status_code == 400


@pytest.mark.parametrize("label", ["text/csv", "application/json"])
def test_a_predictor_and_a_handler_are_served_unmodified(project, built, label):
    model = built("custom_predict_and_handler", "process", "CprHandler")
    with model.deploy_to_local_endpoint(artifact_uri=str(project("custom_predict_and_handler").model)) as endpoint:
        answer = endpoint.predict(request=CSV, headers={"Content-Type": label})
        assert asked(answer) == (200, EXPECTED, "application/json")


def test_a_predictor_that_downloads_by_itself_is_served_unmodified(project, built, engines):
    """Scenario 1 of 2022: Google's own client for Cloud Storage lies beside the kit's counterparts of the SDK."""
    model = built("storage_client", "process")
    files = {f"model/{path.name}": path.read_bytes() for path in project("storage_client").model.iterdir()}
    with BucketServer(**files, **{"model2/model.joblib": b"not this one"}) as bucket:
        address = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{bucket.port}"}
        spec = dataclasses.replace(model.spec, env={**model.spec.env, **address})
        with LocalEndpoint(spec, engines("process"), artifact_uri="gs://bucket/model") as endpoint:
            answer = endpoint.predict(request=json.dumps({"instances": ROWS}), headers=JSON)
    assert asked(answer) == (200, EXPECTED, "application/json")
    assert not bucket.downloads("model2/model.joblib")


def test_attribute_style_imports_and_a_model_among_the_code(built):
    """The style of timm_serving: HTTPException for each of four mistakes."""
    model = built("timm_serving", "process")
    green = base64.b64encode(bytes([10, 200, 10] * 4)).decode()
    wrong = [{}, {"instances": []}, {"instances": [{"image": green}]}, {"instances": [{"b64": "***"}]}]
    with model.deploy_to_local_endpoint() as endpoint:
        answer = endpoint.predict(request=json.dumps({"instances": [{"b64": green}]}), headers=JSON)
        refused = [endpoint.predict(request=json.dumps(body), headers=JSON) for body in wrong]
    assert asked(answer) == (200, {"predictions": ["green"]}, "application/json")
    assert [response.status_code for response in refused] == [400] * 4
    assert "has no b64" in refused[2].text


@pytest.fixture(scope="module")
def docker():
    import docker

    with contextlib.closing(docker.from_env()) as client:
        yield client


@pytest.mark.engine
def test_the_sdk_is_not_in_the_image(built, docker):
    tag = built("custom_preprocess", "docker").spec.image_uri
    docker.containers.run(tag, [WITHOUT_SDK], entrypoint=["python", "-c"], remove=True)


@pytest.mark.engine
def test_the_command_of_upstreams_images_starts_it(project, built, engines):
    image = built("custom_preprocess", "docker").spec
    command = ("python", "-m", "google.cloud.aiplatform.prediction.model_server")
    spec = dataclasses.replace(image, command=command)
    with LocalEndpoint(spec, engines("docker"), artifact_uri=str(project("custom_preprocess").model)) as endpoint:
        assert endpoint.predict(request=json.dumps({"instances": ROWS}), headers=JSON).json() == EXPECTED


@pytest.mark.engine
def test_it_runs_sealed(project, built, engines):
    """As another user, with a read-only root: the artifacts cannot go into the working directory, and still do."""
    spec = built("custom_preprocess", "docker").spec
    model = str(project("custom_preprocess").model)
    with LocalEndpoint(spec, engines("docker"), artifact_uri=model, sealed=True) as endpoint:
        assert endpoint.predict(request=json.dumps({"instances": ROWS}), headers=JSON).json() == EXPECTED


@pytest.mark.engine
def test_an_entry_point_and_a_dockerfile_of_ones_own(project, engines, docker):
    """Scenario 4. Two lines of the Dockerfile install the kit; the rest, and all of the code, is the tutorial's."""
    made = project("entry_point")
    (made.root / "cpr.toml").write_text('[image]\ndockerfile = "Dockerfile"\n')
    tag = "cpr-kit-takeover/entry-point:1"
    model = LocalModel.build(made.root, engine=engines("docker"), tag=tag)
    try:
        with model.deploy_to_local_endpoint(artifact_uri=str(made.model)) as endpoint:
            answer = endpoint.predict(request=CSV, headers={"Content-Type": "text/csv"})
        assert asked(answer) == (200, EXPECTED, "application/json")
        docker.containers.run(tag, [WITHOUT_SDK], entrypoint=["python", "-c"], remove=True)
    finally:
        engines("docker").remove_image(tag)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("custom_preprocess", ["left out of the image", "uvicorn==0.17.6"]),
        ("storage_client", ["left out of the image", "uvicorn==0.17.6"]),
        ("xgboost_online", ["left out of the image", "uvicorn<0.18,>=0.16.0"]),
        ("timm_serving", ["google-cloud-aiplatform[prediction]==1.27.0"]),
    ],
)
def test_the_build_says_what_it_leaves_out(project, name, said):
    folder = project(name).src
    predictor = "predictor:TimmPredictor" if name == "timm_serving" else "predictor:CprPredictor"
    source = Source.read(Config(folder=folder, model=ModelSection(predictor=predictor)))

    assert "aiplatform" not in source.requirements_text
    assert len(source.warnings) == len(said)
    assert all(words in warning for words, warning in zip(said, source.warnings, strict=True))


def test_a_build_and_a_run_leave_the_folder_as_it_was(project, built):
    folder = project("custom_preprocess").src
    before = sorted(path.name for path in folder.iterdir())
    model = built("custom_preprocess", "process")
    with model.deploy_to_local_endpoint(artifact_uri=str(project("custom_preprocess").model)):
        pass

    assert (
        sorted(path.name for path in folder.iterdir())
        == before
        == ["predictor.py", "preprocess.py", "requirements.txt"]
    )
