"""`Model.upload(local_model=...)` of the real SDK with a model of the kit.

Vertex AI itself cannot be here. What answers is a stand-in for the two calls of its REST API that an upload makes: it
shows what the SDK sends over a real socket, and that the SDK takes the kit's model; not what Vertex AI says to it.
"""

import importlib
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

NAME = "projects/123456789012/locations/us-central1/models/77"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.uploads.append((self.path.partition("?")[0], body))
        response = {"@type": "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse"}
        response |= {"model": NAME, "modelVersionId": "1"}
        self.answer({"name": f"{NAME}/operations/1", "done": True, "response": response})

    def do_GET(self):
        model = self.server.uploads[-1][1]["model"]
        self.answer({**model, "name": NAME, "versionId": "1"})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def stand_in():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads, server.uploads = True, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("era", ["today", "early"])
def test_the_sdk_uploads_a_model_of_the_kit(stand_in, era):
    importlib.import_module("google.cloud.aiplatform_v1")
    script = Path(__file__).with_name("upload.py")
    address = f"http://127.0.0.1:{stand_in.server_port}"
    done = subprocess.run([sys.executable, script, era, address], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split()[1:] == ["iris", "us-central1-docker.pkg.dev/my-project/serving/iris:1"]
    ((path, sent),) = stand_in.uploads
    assert path == "/v1/projects/my-project/locations/us-central1/models:upload"
    assert sent["model"]["artifactUri"] == "gs://bucket/model"
    assert sent["model"]["containerSpec"] == {
        "imageUri": "us-central1-docker.pkg.dev/my-project/serving/iris:1",
        "env": [{"name": "VERTEX_CPR_WEB_CONCURRENCY", "value": "2"}],
        "ports": [{"containerPort": 8080}],
        "predictRoute": "/predict",
        "healthRoute": "/health",
    }
