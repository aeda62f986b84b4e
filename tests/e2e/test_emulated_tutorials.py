"""Programs of the tutorials' kind, in `emulated/`, under `cpr emulate --` from their first line to the last."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.engine.protocol import Build


pytestmark = pytest.mark.heavy

PROGRAMS = Path(__file__).parent / "emulated"
REPOSITORY = "us-central1-docker.pkg.dev/my-project/cpr-kit-e2e"
TRANSPORTS = ("grpc", "rest")
APP = """
import os
from fastapi import FastAPI, Request

app = FastAPI()


@app.get("/ping")
def health():
    return {}


@app.post("/predict")
async def predict(request: Request):
    return {"predictions": [int(os.environ["FACTOR"]) * each for each in (await request.json())["instances"]]}
"""


@pytest.fixture
def emulate(tmp_path):
    """emulate("--engine", "docker", "--", "python", "x.py") -> the finished process; of Google's nothing is set."""
    ours = ("CPR_", "AIP_", "GOOGLE_", "CLOUDSDK_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    def run(*arguments, **changes):
        command = [sys.executable, "-m", "cpr_kit", "emulate", *map(str, arguments)]
        done = subprocess.run(
            command, env={**kept, **changes}, cwd=tmp_path, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def image():
    """image("foreign") -> the name of what its Dockerfile builds."""
    with contextlib.ExitStack() as stack:

        def build(name):
            engine, tag = DockerEngine(), f"{REPOSITORY}/{name}:1"
            if engine.image(tag) is None:
                engine.build(Build(context=PROGRAMS / name, tag=tag), lambda line: None)
                stack.callback(engine.remove_image, tag)
            return tag

        yield build


@contextlib.contextmanager
def named(folder, tag, engine):
    LocalModel.build(folder, engine=engine, tag=tag)
    try:
        yield tag
    finally:
        engine.remove_image(tag)


def containers_of(image):
    import docker

    with contextlib.closing(docker.from_env()) as client:
        return client.containers.list(all=True, filters={"ancestor": image})


def names_at(registry):
    import docker

    with contextlib.closing(docker.from_env()) as client:
        attrs = [each.attrs for each in client.images.list()]
    names = [name for each in attrs for name in (each["RepoTags"] or []) + (each["RepoDigests"] or [])]
    return [name for name in names if name.startswith(registry)]


@pytest.mark.engine
def test_a_custom_routine_by_docker(emulate, variant):
    """Pushed to the emulator's registry; the second push, over REST, finds its layers there."""
    program = PROGRAMS / "custom_routine.py"
    folder = variant("sklearn_preprocessor")
    with named(folder, f"{REPOSITORY}/iris:v1", DockerEngine()) as tag:
        script = f'for way in {" ".join(TRANSPORTS)}; do "$0" {program} {tag} {folder}/model $way || exit; done'
        done = emulate("--engine", "docker", "--", "sh", "-c", f'{script}; echo "at $CPR_REGISTRY"', sys.executable)
        assert all(f"\ndone over {way}\n" in done.stdout for way in TRANSPORTS)
        assert containers_of(tag) == []
        registry = done.stdout.split()[-1]
        if registry != "engine":
            assert names_at(registry) == []


def test_a_custom_routine_in_processes(emulate, variant):
    folder = variant("sklearn_preprocessor")
    with named(folder, f"{REPOSITORY}/iris:v1", ProcessEngine()) as tag:
        command = (sys.executable, PROGRAMS / "custom_routine.py", tag, folder / "model", "grpc")
        done = emulate("--engine", "process", "--", *command)
        assert f"pushed: {ProcessEngine().image(tag).id}\n" in done.stdout
        assert "done over grpc\n" in done.stdout


@pytest.mark.engine
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("program", "name"), [("raw_prediction", "foreign"), ("tf_serving", "tf_serving")])
def test_containers_that_know_nothing_of_the_kit(emulate, image, program, name, transport):
    tag = image(name)
    command = (sys.executable, PROGRAMS / f"{program}.py", tag, transport)
    done = emulate("--engine", "docker", "--", *command)
    assert done.stdout.endswith(f"\ndone over {transport}\n")
    assert containers_of(tag) == []


@pytest.mark.engine
def test_a_fastapi_application(emulate, tmp_path):
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "main.py").write_text(APP)
    (folder / "cpr.toml").write_text('[model]\napp = "main:app"\n[image]\nhealth_route = "/ping"\n')
    with named(folder, f"{REPOSITORY}/fastapi:1", DockerEngine()) as tag:
        script = f'for way in {" ".join(TRANSPORTS)}; do "$0" {PROGRAMS}/fastapi_server.py {tag} $way || exit; done'
        done = emulate("--engine", "docker", "--", "sh", "-c", script, sys.executable)
        assert all(f"\ndone over {way}\n" in done.stdout for way in TRANSPORTS)
        assert containers_of(tag) == []


@pytest.mark.engine
def test_the_tutorials_calls_by_curl(emulate, image, tmp_path):
    """Where there is no gcloud, one that says no more than the token that gcloud would say."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    path = os.environ["PATH"]
    if shutil.which("gcloud") is None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "gcloud").write_text('#!/bin/sh\necho "$CLOUDSDK_AUTH_ACCESS_TOKEN"\n')
        (tmp_path / "bin" / "gcloud").chmod(0o755)
        path = f"{path}:{tmp_path / 'bin'}"
    tag = image("foreign")
    done = emulate("--engine", "docker", "--", "sh", PROGRAMS / "by_curl.sh", tag, PATH=path)
    predicted, raw, left = done.stdout.splitlines()
    assert json.loads(predicted)["predictions"] == [3.0, 7.5]
    assert raw.startswith("text/csv 8 ")
    assert left == "{}{}"
    assert containers_of(tag) == []
