"""For the tests of predictions through the real SDK: an emulator with one model, and endpoints for a test."""

from __future__ import annotations

import contextlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import google.auth
import pytest
from google.auth.transport.requests import AuthorizedSession
from google.cloud import aiplatform
from google.cloud.aiplatform import gapic, initializer

# The image contexts that both engines build belong to the engines' tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from contexts import write_context

from cpr_kit.emulator.program import emulate
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Build

PROJECT, LOCATION = "my-project", "us-central1"
HOST = f"{LOCATION}-aiplatform.googleapis.com"
TAG = "cpr-kit-tests/data-plane:1"
JSON = {"Content-Type": "application/json"}
ROUTES = {"serving_container_predict_route": "/predict", "serving_container_health_route": "/health"}


def built(engine, folder):
    """The image of emu_model_server.py; remove it by its TAG."""
    context = write_context(folder / "context")
    (context / "code" / "server.py").write_text((Path(__file__).parent / "emu_model_server.py").read_text())
    return engine.build(Build(context=context, tag=TAG), lambda _: None)


class Plane:
    """One emulator, one model, and what a test needs of both."""

    def __init__(self, emulator, calls, notes):
        self.emulator = emulator
        self.calls = calls
        self.notes = notes
        self._endpoints = {}
        self.use("rest")
        self.model = aiplatform.Model.upload(display_name="m", serving_container_image_uri=TAG, **ROUTES)

    def use(self, transport):
        """ "rest", or "grpc", which is the SDK's own choice."""
        initializer.global_config._api_transport = None
        extra = {} if transport == "grpc" else {"api_transport": transport}
        aiplatform.init(project=PROJECT, location=LOCATION, **extra)

    def new(self, model=None, **options):
        """An endpoint with the model deployed; the test deletes it, or nobody does."""
        kind = aiplatform.PrivateEndpoint if _is_private(options) else aiplatform.Endpoint
        endpoint = kind.create(display_name="e", **options)
        (model or self.model).deploy(endpoint=endpoint, machine_type="n1-standard-2")
        return endpoint

    def endpoint(self, kind, transport="grpc"):
        """The module's endpoint of this kind, through this transport."""
        if kind not in self._endpoints:
            self.use("rest")
            self._endpoints[kind] = self.new(**KINDS[kind]).resource_name
        self.use(transport)
        private = _is_private(KINDS[kind])
        return (aiplatform.PrivateEndpoint if private else aiplatform.Endpoint)(self._endpoints[kind])


KINDS = {
    "public": {},
    "dedicated": {"dedicated_endpoint_enabled": True, "inference_timeout": 1},
    "psa": {"network": "projects/123/global/networks/default"},
    "psc": {
        "private_service_connect_config": aiplatform.PrivateEndpoint.PrivateServiceConnectConfig(
            project_allowlist=[PROJECT]
        ),
        "inference_timeout": 1,
    },
}


def _is_private(options):
    return bool({"network", "private_service_connect_config"} & options.keys())


@contextlib.contextmanager
def plane(engine, folder, **options):
    calls, notes = [], []
    built(engine, folder)
    try:
        with emulate(engine=engine, show=calls.append, note=notes.append, **options) as emulator:
            yield Plane(emulator, calls, notes)
    finally:
        engine.remove_image(TAG)


@pytest.fixture(scope="module")
def vertex_plane(tmp_path_factory):
    with plane(choose("process").engine, tmp_path_factory.mktemp("plane")) as made:
        yield made


class Gate:
    """A server that a container asks, and which answers it when the test says so."""

    def __init__(self):
        self.come = threading.Semaphore(0)
        self._open = threading.Semaphore(0)
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                gate.come.release()
                gate._open.acquire(timeout=120)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"opened")

            def log_message(self, *words):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def wait(self):
        """Until one more container stands before it."""
        assert self.come.acquire(timeout=60)

    def open(self, times=1):
        for _ in range(times):
            self._open.release()

    def close(self):
        self.open(1000)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.close()


@pytest.fixture
def session():
    """As programs without the SDK have it: requests, with a token."""
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    with AuthorizedSession(credentials) as made:
        yield made


def url(endpoint, verb, host=HOST):
    return f"https://{host}/v1/{endpoint.resource_name}:{verb}"


def body_of(prediction):
    """The text that the container got, after do("show")."""
    return prediction.predictions[0]["body"]


def do(what, **order):
    return {"do": what, **order}


def prediction_client(transport="rest"):
    return gapic.PredictionServiceClient(transport=transport, client_options={"api_endpoint": HOST})
