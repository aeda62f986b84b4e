"""Upstream's ways to start a server, without the SDK; and the SDK's own server with what is the kit's."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "folder"
MODEL_SERVER = ["-m", "google.cloud.aiplatform.prediction.model_server"]
HANDLER = {"HANDLER_MODULE": "google.cloud.aiplatform.prediction.handler", "HANDLER_CLASS": "PredictionHandler"}
PREDICTOR = {"PREDICTOR_MODULE": "predictor", "PREDICTOR_CLASS": "Doubles"}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_module_that_upstreams_images_start_is_the_kits_server(start_without_sdk, workers):
    environ = {**HANDLER, **PREDICTOR, "VERTEX_CPR_WEB_CONCURRENCY": workers}
    server = start_without_sdk(MODEL_SERVER, FOLDER, **environ).ready()

    assert server.predict(json={"instances": [1, 2]}).json() == {"predictions": [2, 4]}
    assert server.predict(json={}).status_code == 400
    assert (server.health().status_code, server.health().json()) == (200, {})


def test_a_handler_derived_from_upstreams_has_its_predictor(start_without_sdk):
    environ = {"HANDLER_MODULE": "handler", "HANDLER_CLASS": "Lines", **PREDICTOR}
    server = start_without_sdk(["-m", "cpr_kit.runtime"], FOLDER, **environ).ready()

    answer = server.predict(b"1\n2.5\n", headers={"Content-Type": "text/csv"})
    assert (answer.json(), answer.headers["content-type"]) == ({"predictions": [2.0, 5.0]}, "application/json")
    assert server.predict(b"").status_code == 400
    assert "no numbers" in server.predict(b"").text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, */*;q=0.5"])
def test_a_handler_that_repeats_what_it_accepts_still_names_a_type(start_without_sdk, accept):
    environ = {"HANDLER_MODULE": "handler", "HANDLER_CLASS": "Negotiates", **PREDICTOR}
    server = start_without_sdk(["-m", "cpr_kit.runtime"], FOLDER, **environ).ready()

    answer = server.predict(json={"instances": [3]}, headers={"Accept": accept})

    assert (answer.json(), answer.headers["content-type"]) == ({"predictions": [6]}, "application/json")


def test_an_entry_point_of_2022_serves(start_without_sdk):
    server = start_without_sdk([str(FOLDER / "entrypoint.py")], FOLDER).ready()

    assert server.predict(b"4").json() == {"predictions": [8.0]}
    server.process.terminate()
    assert server.process.wait(30) == 0


def test_another_server_takes_the_application(start_without_sdk, tmp_path):
    script = tmp_path / "start.py"
    factory = "google.cloud.aiplatform.prediction.model_server:CprModelServer"
    script.write_text(
        "import os, uvicorn\n"
        f"uvicorn.run({factory!r}, factory=True, host='127.0.0.1', port=int(os.environ['AIP_HTTP_PORT']))\n"
    )
    server = start_without_sdk([str(script)], FOLDER, **HANDLER, **PREDICTOR)

    assert server.first_health().status_code == 200
    assert server.predict(json={"instances": [5]}).json() == {"predictions": [10]}
    assert "Uvicorn running" in server.log.read_text()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("handler", ["the SDK's", "the kit's"])
def test_a_kit_predictor_runs_under_the_sdks_own_server(start, tmp_path, handler):
    """D4: nothing of the kit serves here but the predictor, or the predictor and its handler."""
    importlib.import_module("google.cloud.aiplatform")
    (tmp_path / "kits.py").write_text(
        "from cpr_kit import Predictor\n"
        "class Halves(Predictor):\n"
        "    def load(self, artifacts_uri): self.factor = 0.5\n"
        "    def predict(self, request): return {'predictions': [self.factor * x for x in request['instances']]}\n"
    )
    environ = {"PREDICTOR_MODULE": "kits", "PREDICTOR_CLASS": "Halves", **HANDLER}
    if handler == "the kit's":
        environ |= {"HANDLER_MODULE": "cpr_kit", "HANDLER_CLASS": "PredictionHandler"}
    server = start(MODEL_SERVER, tmp_path, **environ).ready()

    assert server.predict(json={"instances": [4, 6]}).json() == {"predictions": [2, 3]}
    assert "Uvicorn running" in server.log.read_text()


@pytest.mark.filterwarnings("ignore")
def test_the_kits_ready_made_predictor_answers_plain_lists_under_the_sdks_own_server(start, tmp_path):
    importlib.import_module("google.cloud.aiplatform")
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.tree import DecisionTreeClassifier

    iris = load_iris()
    skops.io.dump(DecisionTreeClassifier().fit(iris.data, iris.target), tmp_path / "model.skops")
    (tmp_path / "kits.py").write_text("from cpr_kit import SklearnPredictor\nclass Iris(SklearnPredictor): pass\n")
    environ = {"PREDICTOR_MODULE": "kits", "PREDICTOR_CLASS": "Iris", "AIP_STORAGE_URI": str(tmp_path), **HANDLER}
    server = start(MODEL_SERVER, tmp_path, **environ).ready()

    assert server.predict(json={"instances": iris.data[[0, 60]].tolist()}).json() == {"predictions": [0, 1]}


@pytest.mark.filterwarnings("ignore")
def test_classes_derived_from_the_sdks_own_run_under_the_kits_server(start):
    """D3: with the SDK installed, its bases are the SDK's."""
    importlib.import_module("google.cloud.aiplatform")
    environ = {"HANDLER_MODULE": "handler", "HANDLER_CLASS": "Lines", **PREDICTOR}
    server = start(["-m", "cpr_kit.runtime"], FOLDER, **environ).ready()

    assert server.predict(b"1\n2.5\n").json() == {"predictions": [2.0, 5.0]}


@pytest.mark.filterwarnings("ignore")
def test_the_sdks_own_handler_runs_under_the_kits_server(start):
    importlib.import_module("google.cloud.aiplatform")
    server = start(["-m", "cpr_kit.runtime"], FOLDER, **HANDLER, **PREDICTOR).ready()

    answer = server.predict(json={"instances": [1]})
    assert (answer.json(), answer.headers["content-type"]) == ({"predictions": [2]}, "application/json")


@pytest.mark.parametrize("missing", ["AIP_HTTP_PORT", "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"])
def test_a_server_without_its_variables_is_a_value_error(monkeypatch, missing):
    from cpr_kit.sdk.server import ModelServer

    for name in ("AIP_HTTP_PORT", "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"):
        monkeypatch.setenv(name, "8080" if name == "AIP_HTTP_PORT" else f"/{name}")
    monkeypatch.delenv(missing)

    with pytest.raises(ValueError, match=missing):
        ModelServer(object())


def test_a_server_has_upstreams_attributes(monkeypatch):
    import asyncio

    from cpr_kit.sdk.server import CprModelServer, ModelServer

    monkeypatch.setenv("AIP_HTTP_PORT", "9001")
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/h")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/p")

    class Echo:
        def handle(self, request):
            return request

    server = ModelServer(Echo())
    assert (server.http_port, server.health_route, server.predict_route, server.health()) == (9001, "/h", "/p", {})
    assert callable(server.app)
    assert asyncio.run(server.predict("request")) == "request"
    with pytest.raises(ValueError, match="HANDLER_MODULE, HANDLER_CLASS"):
        CprModelServer()


@pytest.mark.parametrize(
    ("environ", "number"),
    [
        ({"VERTEX_CPR_WEB_CONCURRENCY": "7"}, "7"),
        ({"VERTEX_CPR_WORKERS_PER_CORE": "3", "VERTEX_CPR_MAX_WORKERS": "2"}, "2"),
    ],
)
def test_the_number_of_workers_is_left_where_upstream_leaves_it(monkeypatch, environ, number):
    import os

    from cpr_kit.sdk.server import set_number_of_workers_from_env

    for name, value in {"WEB_CONCURRENCY": "", "VERTEX_CPR_WEB_CONCURRENCY": "", **environ}.items():
        monkeypatch.setenv(name, value)

    set_number_of_workers_from_env()

    assert os.environ["WEB_CONCURRENCY"] == number


def test_the_application_is_ready_at_its_first_request(monkeypatch, tmp_path):
    """Of a server that sends no lifespan events before."""
    import asyncio
    import sys

    from cpr_kit.sdk.server import CprModelServer

    (tmp_path / "asgi_predictor.py").write_text(
        "from cpr_kit import Predictor\n"
        "class P(Predictor):\n    def load(self, artifacts_uri): pass\n    def predict(self, x): return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    environ = {"AIP_HTTP_PORT": "8080", "AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict"}
    environ |= {"HANDLER_MODULE": "cpr_kit", "HANDLER_CLASS": "PredictionHandler"}
    environ |= {"PREDICTOR_MODULE": "asgi_predictor", "PREDICTOR_CLASS": "P"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/health", "headers": []}
    asyncio.run(CprModelServer()(scope, receive, send))

    assert sent[0]["status"] == 200
    sys.modules.pop("asgi_predictor")
