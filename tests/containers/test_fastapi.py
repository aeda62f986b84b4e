"""FastAPI as the container: the tutorial's folder, the applications beside it, and the kit's own two, on the emulator."""

import contextlib
import importlib
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.config import Config
from cpr_kit.emulator.program import emulate
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.harness import checks
from cpr_kit.harness.target import Target, samples_of

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

HERE = Path(__file__).parent
CONTAINERS = HERE.parents[1] / "containers"
REPOSITORY = "us-central1-docker.pkg.dev/my-project/cpr-kit-fastapi"
TIANGOLO = "tiangolo/uvicorn-gunicorn-fastapi"
NOT_COPIED = shutil.ignore_patterns("model", "__pycache__", ".ruff_cache")
FLOWERS = [[6.7, 3.1, 4.7, 1.5], [4.6, 3.1, 1.5, 0.2]]


@pytest.fixture(scope="module")
def engine():
    return DockerEngine()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """folder(origin) -> a copy of it, trained where it trains."""
    copies = {}

    def copied(origin):
        if origin not in copies:
            path = tmp_path_factory.mktemp("projects") / origin.name
            shutil.copytree(origin, path, ignore=NOT_COPIED)
            if (path / "train.py").exists():
                subprocess.run([sys.executable, "-B", "train.py"], cwd=path, check=True, capture_output=True)
            copies[origin] = path
        return copies[origin]

    return copied


@pytest.fixture(scope="module")
def build(engine):
    with contextlib.ExitStack() as images:

        def built(path, tag=None):
            tag = tag or f"{REPOSITORY}/{path.name}:1"
            model = LocalModel.build(path, engine=engine, tag=tag)
            images.callback(engine.remove_image, tag)
            return model

        yield built


@pytest.fixture(scope="module")
def base(engine, build, tmp_path_factory):
    """The names that the Dockerfiles of the tutorials start from."""
    path = tmp_path_factory.mktemp("base")
    shutil.copytree(HERE / "fastapi_base", path, dirs_exist_ok=True)
    (path / "cpr.toml").write_text('[image]\ndockerfile = "Dockerfile"\n')
    build(path, f"{TIANGOLO}:python3.9")
    engine.tag(f"{TIANGOLO}:python3.9", f"{TIANGOLO}:python3.7")
    yield
    engine.remove_image(f"{TIANGOLO}:python3.7")


@pytest.fixture(scope="module")
def images(base, folder, build, tmp_path_factory):
    """(folder, model) by name, all built before the emulator starts: it lets nobody fetch packages."""
    sibling = folder(HERE / "fastapi_sibling")
    (sibling / "cpr.toml").write_text('[image]\ndockerfile = "Dockerfile"\nports = [8080]\n')
    iris = folder(CONTAINERS / "fastapi_iris")
    edited = tmp_path_factory.mktemp("edited") / "fastapi_edited"
    shutil.copytree(iris, edited)
    with (edited / "main.py").open("a") as file:
        file.write("\nEDITED = True\n")
    folders = (folder(CONTAINERS / "fastapi_image"), iris, edited, sibling)
    return {path.name: (path, build(path)) for path in folders}


@pytest.fixture(scope="module")
def vertex(engine, images):
    from google.cloud import aiplatform

    with emulate(engine=engine):
        aiplatform.init(project="my-project", location="us-central1")
        yield aiplatform


@pytest.fixture(scope="module")
def deployed(vertex):
    """deployed(image, artifacts) -> an endpoint; neither routes nor ports are named, unless they are given."""
    made = []

    def deploy(image, artifacts=None, **routes):
        model = vertex.Model.upload(
            display_name=image.rpartition("/")[2].partition(":")[0],
            serving_container_image_uri=image,
            artifact_uri=artifacts,
            **{f"serving_container_{name}": value for name, value in routes.items()},
        )
        made.append(model.deploy(machine_type="n1-standard-4"))
        return made[-1]

    yield deploy
    for endpoint in made:
        endpoint.delete(force=True)


@contextlib.contextmanager
def importable(path, monkeypatch):
    """The folder's modules, forgotten afterwards: others have modules of the same names."""
    before = set(sys.modules)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(path)
        patch.setattr(sys, "dont_write_bytecode", True)
        yield importlib.import_module
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(path)):
                del sys.modules[name]


def uploaded(bucket, path):
    from google.cloud import storage

    folder = storage.Client(project="my-project").bucket(bucket)
    if not folder.exists():
        folder.create(location="us-central1")
    for each in path.iterdir():
        folder.blob(f"model/{each.name}").upload_from_filename(str(each))
    return f"gs://{bucket}/model"


# --- the tutorial's own folder, which is unfinished -------------------------------------------------------------------


def test_a8_1_check_names_the_faults_of_the_tutorials_folder(base, engine, build, tmp_path):
    serve = tmp_path / "cpr-kit-fastapi-serve"
    shutil.copytree(HERE / "fastapi_serve", serve)
    (serve / "model").mkdir()
    joblib.dump(LogisticRegression(), serve / "model" / "model.joblib")

    command = [sys.executable, "-m", "cpr_kit", "check", str(serve), "--engine", "docker", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert [(check["name"], check["severity"]) for check in said["checks"] if check["severity"] == "breach"] == [
        ("shape request.json", "breach"),
        ("port", "breach"),
    ]
    by_name = {check["name"]: check for check in said["checks"]}
    assert 'no list "predictions": {"test":"to-be-finished"}' in by_name["shape request.json"]["detail"]
    assert "at the port of AIP_HTTP_PORT" in by_name["port"]["rule"]
    found = {(Path(each["path"]).name, each["line"], each["name"]) for each in said["findings"]}
    assert found == {
        ("Dockerfile", 1, "user"),
        ("Dockerfile", 2, "order"),
        ("Dockerfile", 5, "package cache"),
        ("Dockerfile", 7, "port"),
        ("Dockerfile", 7, "prestart"),
        ("main.py", 11, "health"),
        ("prestart.sh", 1, "prestart"),
    }


# --- finished, on the kit ---------------------------------------------------------------------------------------------


def test_a8_2_a_picture_gets_its_five_likeliest_labels_here_and_there(images, deployed, monkeypatch):
    path, model = images["fastapi_image"]
    request = json.loads((path / "requests" / "a_seven.json").read_text())
    expected = json.loads((path / "requests" / "a_seven.expected.json").read_text())
    with importable(path, monkeypatch) as load:
        pictures = [load("train").instance(image) for image in load_digits().images[:20]]
        predictor = load("predictor").DigitPredictor()
        predictor.load(str(path / "model"))
        prepared = predictor.preprocess({"instances": pictures})
        here = [each["labels"] for each in predictor.postprocess(predictor.predict(prepared))["predictions"]]

    with model.deploy_to_local_endpoint() as endpoint:
        assert endpoint.predict(request).json() == expected
        answers = endpoint.predict(instances=pictures).predictions
        found = checks.run(Target.of(endpoint), samples_of(Config.read(path)))
        wrong = endpoint.predict({"instances": [{"bytes_inputs": {"b64": "bm8gcGljdHVyZQ=="}}]})
    assert [each["labels"] for each in answers] == here
    assert [(check.name, check.detail) for check in found if check.severity == "breach"] == []
    assert (wrong.status_code, wrong.json()["error"]["message"]) == (400, "bytes_inputs is no picture in base64")
    # No routes are named here, so they are Vertex AI's own long ones.
    cloud = deployed(model.spec.image_uri, uploaded("digits", path / "model"))
    assert cloud.predict(**request).predictions == expected["predictions"]


def test_a8_2_the_application_is_at_most_ten_lines():
    lines = (CONTAINERS / "fastapi_image" / "main.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 10


# --- the finished ones of others --------------------------------------------------------------------------------------


def test_a8_3_an_application_that_fetches_with_googles_own_client(images, deployed, monkeypatch, tmp_path):
    origin, model = images["fastapi_sibling"]
    instances, classes = load_iris(return_X_y=True)
    with importable(origin / "app", monkeypatch) as load:
        scaler = load("preprocess").MySimpleScaler()
        rows = scaler.preprocess(instances)
        (tmp_path / "preprocessor.pkl").write_bytes(pickle.dumps(scaler))
    joblib.dump(LogisticRegression().fit(rows, classes), tmp_path / "model.joblib")

    endpoint = deployed(model.spec.image_uri, uploaded("sibling", tmp_path))

    assert endpoint.predict(instances=FLOWERS).predictions == ["versicolor", "setosa"]


@pytest.fixture(scope="module")
def iris(images):
    return images["fastapi_iris"]


@pytest.fixture(scope="module")
def baked(iris, deployed):
    """The image by itself, at the tutorial's routes and port: no artifacts, so AIP_STORAGE_URI is empty."""
    _, model = iris
    return deployed(model.spec.image_uri, predict_route="/predict", health_route="/ping", ports=[7080])


def test_a8_4_a_baked_image_answers_with_class_and_probability(iris, baked):
    import docker

    path, model = iris
    request = json.loads((path / "requests" / "two_flowers.json").read_text())
    expected = json.loads((path / "requests" / "two_flowers.expected.json").read_text())
    assert baked.predict(**request).predictions == expected["predictions"]
    with contextlib.closing(docker.from_env()) as client:
        [container] = client.containers.list(filters={"ancestor": model.spec.image_uri})
        environment = dict(each.split("=", 1) for each in container.attrs["Config"]["Env"])
    asked = ("AIP_STORAGE_URI", "AIP_HTTP_PORT", "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE")
    assert [environment[name] for name in asked] == ["", "7080", "/ping", "/predict"]


def test_a8_5_baked_and_fetched_give_equal_answers(iris, baked, deployed, tmp_path):
    import skops.io

    path, model = iris
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    instances, classes = load_iris(return_X_y=True)
    rows = [dict(zip(names, row, strict=True)) for row in instances.tolist()]
    fetched = deployed(model.spec.image_uri, uploaded("iris", path / "model"))
    answers = baked.predict(instances=rows).predictions
    assert fetched.predict(instances=rows).predictions == answers
    assert {answer["class"] for answer in answers} == {"setosa", "versicolor", "virginica"}
    # It was fetched: another model in the bucket gives other answers.
    skops.io.dump(LogisticRegression(C=1e-6).fit(instances, classes), tmp_path / "model.skops")
    other = deployed(model.spec.image_uri, uploaded("other", tmp_path))
    assert other.predict(instances=rows).predictions != answers


def test_a_baked_model_has_a_layer_of_its_own(images):
    """An edit of the code sends the code's layer alone."""
    import docker

    with contextlib.closing(docker.from_env()) as client:
        uris = (images[name][1].spec.image_uri for name in ("fastapi_iris", "fastapi_edited"))
        before, after = (client.images.get(uri).attrs["RootFS"]["Layers"] for uri in uris)
    assert len(before) == len(after)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True] * (len(before) - 1) + [False]
