"""`create_app`: what it answers while the model loads, once it has, and when it cannot; mounted, spliced and alone."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import requests
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse

from cpr_kit import Handler, Predictor, create_app
from cpr_kit.errors import StartError

AIP = {
    "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
}
LIMIT_S = 60


class Doubler(Predictor):
    def load(self, artifacts_uri):
        self.uri = artifacts_uri

    def predict(self, request):
        return {"predictions": 2 * np.array(request["instances"])}


class TellsItsFolder(Doubler):
    def predict(self, request):
        return {"predictions": [self.uri for _ in request["instances"]]}


class Waits(Doubler):
    may_load = threading.Event()

    def load(self, artifacts_uri):
        assert self.may_load.wait(LIMIT_S)


class Fails(Doubler):
    def load(self, artifacts_uri):
        raise OSError("no weights there")


class Answers(Handler):
    async def handle(self, request: Request):
        return JSONResponse({"predictions": [len(await request.body())]})


class Client:
    """Asks an application that a server of this process serves."""

    def __init__(self, url):
        self.url = url

    def get(self, path):
        return requests.get(self.url + path, timeout=LIMIT_S)

    def post(self, path, json=None, content=None):
        return requests.post(self.url + path, json=json, data=content, timeout=LIMIT_S)


@pytest.fixture
def serve():
    """serve(app) -> a client of a server that has started."""
    running = []

    def started(app):
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        running.append((server, thread, listener))
        return Client(f"http://127.0.0.1:{listener.getsockname()[1]}")  # it listens already, and answers when it can

    yield started
    for server, thread, listener in running:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def mounted(serve):
    def client(serving):
        app = FastAPI()
        app.get("/labels")(lambda: ["one"])
        app.mount("/", serving)
        return serve(app)

    return client


@pytest.fixture
def ready(mounted):
    def client(serving):
        serving.wait(LIMIT_S)
        return mounted(serving)

    return client


def test_a_mounted_predictor_answers_beside_the_applications_own_routes(ready):
    client = ready(create_app(Doubler, environ={}))
    assert (client.get("/health").status_code, client.get("/labels").json()) == (200, ["one"])
    assert client.post("/predict", json={"instances": [1, 2.5]}).json() == {"predictions": [2, 5]}
    assert client.get("/predict").status_code == 405
    assert client.post("/predict", json={}).status_code == 400
    assert client.get("/nothing").status_code == 404


def test_health_is_503_until_the_model_is_loaded(mounted):
    serving = create_app(Waits, environ={})
    client = mounted(serving)
    assert client.get("/labels").json() == ["one"]
    for answer in (client.get("/health"), client.post("/predict", json={"instances": [1]})):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["message"] == "the model is still loading"
    Waits.may_load.set()
    serving.wait(LIMIT_S)
    assert client.get("/health").status_code == 200


def test_routes_are_those_of_the_environment_wherever_it_is_mounted(ready, serve):
    serving = create_app(Doubler, environ=AIP)
    client = ready(serving)
    assert client.get(AIP["AIP_HEALTH_ROUTE"]).status_code == 200
    assert client.post(AIP["AIP_PREDICT_ROUTE"], json={"instances": [3]}).json() == {"predictions": [6]}
    assert client.get("/health").status_code == 404
    app = FastAPI()
    app.mount("/v1/endpoints", serving)
    assert serve(app).post(AIP["AIP_PREDICT_ROUTE"], json={"instances": [3]}).json() == {"predictions": [6]}
    # Below another folder there is nothing that Vertex AI would ask for.
    elsewhere = FastAPI()
    elsewhere.mount("/x", create_app(Doubler, environ={}))
    assert serve(elsewhere).get("/x/health").status_code == 404


def test_its_routes_may_be_spliced_and_it_may_stand_alone(serve):
    serving = create_app(Doubler, environ={})
    serving.wait(LIMIT_S)
    for app in (FastAPI(routes=serving.routes), serving):
        client = serve(app)  # with the events of a lifespan
        assert client.post("/predict", json={"instances": [1]}).json() == {"predictions": [2]}
        assert client.get("/nothing").status_code == 404


def test_a_handler_of_ones_own_needs_no_predictor(ready):
    client = ready(create_app(None, Answers, environ={}))
    assert client.post("/predict", content=b"four").json() == {"predictions": [4]}


def test_the_model_is_the_platforms_then_the_one_of_the_code_then_the_one_in_the_image(ready, tmp_path):
    def uri(environ, **options):
        client = ready(create_app(TellsItsFolder, environ=environ, **options))
        return client.post("/predict", json={"instances": [1]}).json()["predictions"][0]

    baked = {"CPR_IMAGE_BAKE": "model"}
    assert uri({"AIP_STORAGE_URI": "gs://b/m", **baked}, artifacts="here") == "gs://b/m"
    assert uri({"AIP_STORAGE_URI": "", **baked}, artifacts=tmp_path) == str(tmp_path)
    assert uri({"AIP_STORAGE_URI": "", **baked}) == os.path.join(os.getcwd(), "model")
    assert uri({}) == ""


def test_a_load_that_fails_is_told_by_health_and_by_whoever_waits(mounted, monkeypatch, caplog):
    monkeypatch.delenv("AIP_MODE", raising=False)
    serving = create_app(Fails, environ={})
    with pytest.raises(StartError, match="Fails could not be loaded: OSError: no weights there"):
        serving.wait(LIMIT_S)
    answer = mounted(serving).get("/health")
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the model could not be loaded")
    assert "the model cannot be loaded: Fails could not be loaded" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((Doubler(),), r"give it the class: create_app\(Doubler\)"), ((None,), "write create_app")],
)
def test_what_is_no_class_is_refused(arguments, said):
    with pytest.raises(StartError, match=said):
        create_app(*arguments, environ={})


# --- in a process of its own ------------------------------------------------------------------------------------------

MAIN = """
import os, time
from fastapi import FastAPI
from cpr_kit import Predictor, create_app

class Own(Predictor):
    def load(self, artifacts_uri):
        if os.environ.get("FAILS"):
            raise OSError("no weights there")
        self.factor = Factor.two

    def predict(self, request):
        return {"predictions": [self.factor * each for each in request["instances"]]}

app = FastAPI()
app.mount("/", create_app(Own))
time.sleep(0.1)

class Factor:
    "The load needs what stands below create_app."
    two = 2
"""


@pytest.fixture
def process(tmp_path):
    """process(command, **variables) -> the server and its address, which goes with the test."""
    (tmp_path / "main.py").write_text(MAIN)
    started = []

    def start(*command, **variables):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIP_", "CPR_"))}
        words = [sys.executable, *(word.replace("PORT", port) for word in command)]
        environ = {**kept, "AIP_HTTP_PORT": port, "AIP_MODE": "PREDICTION", **variables}
        log = (tmp_path / "log").open("w+")
        started.append((subprocess.Popen(words, cwd=tmp_path, env=environ, stdout=log, stderr=log), log))
        return (*started[-1], f"http://127.0.0.1:{port}")

    yield start
    for each, log in started:
        each.kill()
        each.wait()
        log.close()


SERVERS = pytest.mark.parametrize(
    ("command", "variables"),
    [
        (("-m", "cpr_kit.runtime"), {"CPR_MODEL_APP": "main:app", "CPR_SERVE_HOST": "127.0.0.1"}),
        (("-m", "uvicorn", "main:app", "--port", "PORT"), {}),
    ],
    ids=["kit", "uvicorn"],
)


def healthy(url, process):
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            if requests.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.05)
    raise AssertionError("never healthy")


@SERVERS
def test_it_loads_what_stands_below_it_in_its_module(process, command, variables):
    server, _, url = process(*command, **variables)
    healthy(url, server)
    assert requests.post(f"{url}/predict", json={"instances": [1, 2]}, timeout=5).json() == {"predictions": [2, 4]}
    server.send_signal(signal.SIGTERM)
    assert server.wait(LIMIT_S) in (0, -signal.SIGTERM)


@SERVERS
def test_a_container_whose_model_cannot_be_loaded_ends_with_the_reason(process, command, variables):
    server, log, _ = process(*command, **variables, FAILS="1")
    assert server.wait(LIMIT_S) == 1
    log.seek(0)
    last = log.read().splitlines()[-1]
    assert "Own could not be loaded: OSError: no weights there (main.py line " in last
