"""An application of the user's own where there is no container engine: as a process, and by `cpr serve`."""

import contextlib
import signal
import subprocess
import sys
import time

import pytest
import requests

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.engine import ports
from cpr_kit.engine.process import ProcessEngine

APP = """
from fastapi import FastAPI, Request

app = FastAPI()


@app.get("/ping")
def health():
    return {}


@app.post("/predict")
async def predict(request: Request):
    return {"predictions": [2 * each for each in (await request.json())["instances"]]}
"""


@pytest.fixture
def application(tmp_path):
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "main.py").write_text(APP)
    (folder / "cpr.toml").write_text('[model]\napp = "main:app"\n[image]\nhealth_route = "/ping"\n')
    return folder


def test_the_process_engine_runs_it(application):
    model = LocalModel.build(application, engine=ProcessEngine(), tag="cpr-e2e/application:1")
    try:
        with model.deploy_to_local_endpoint() as endpoint:
            assert endpoint.predict(instances=[1, 2.5]).predictions == [2, 5]
    finally:
        ProcessEngine().remove_image("cpr-e2e/application:1")
    assert endpoint.container.exit_code() == 0


def test_serve_serves_it(application):
    port = ports.free()
    command = [sys.executable, "-m", "cpr_kit", "serve", str(application), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with contextlib.suppress(requests.ConnectionError):
                    if requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).status_code == 200:
                        break
                time.sleep(0.05)
            answer = requests.post(f"http://127.0.0.1:{port}/predict", json={"instances": [3]}, timeout=5)
            assert answer.json() == {"predictions": [6]}
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def test_serve_has_no_say_over_a_foreign_image(tmp_path):
    (tmp_path / "cpr.toml").write_text('[image]\ntemplate = "foreign"\nbase = "other/server:1"\n')
    done = subprocess.run(
        [sys.executable, "-m", "cpr_kit", "serve", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "in its image alone; start it with: cpr run" in done.stderr) == (2, True)
