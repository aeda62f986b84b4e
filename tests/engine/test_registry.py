"""Images to a registry and back: Debian's docker-registry on 127.0.0.1, and the real engine."""

import os
import shutil
import socket
import subprocess
import time

import pytest
import requests

from cpr_kit import LocalModel
from cpr_kit.engine import ports
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.errors import EngineUnavailable, LackingError, RegistryError

pytestmark = pytest.mark.engine

CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error}}
{auth}
"""


@pytest.fixture(scope="module")
def engine():
    return DockerEngine()


@pytest.fixture
def registry(tmp_path, request):
    program = shutil.which("docker-registry")
    if program is None:
        missing = pytest.fail if os.environ.get("CPR_REQUIRE_ENGINE") == "1" else pytest.skip
        missing("docker-registry is not installed")
    port, auth = ports.free(), getattr(request, "param", "")
    (tmp_path / "config.yml").write_text(CONFIG.format(folder=tmp_path / "data", port=port, auth=auth))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", tmp_path / "config.yml"], stdout=log, stderr=log, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def model(engine, registry, tmp_path):
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "Dockerfile").write_text(
        'FROM python:3.11-slim\nLABEL test="registry"\nENTRYPOINT ["python"]\n'
    )
    made = LocalModel.from_dockerfile(tmp_path / "image", image=f"{registry}/serving/tiny:1", engine=engine)
    yield made
    for name in (f"{registry}/serving/tiny:1", f"{registry}/serving/twin:2"):
        if engine.image(name):
            engine.remove_image(name)


def test_an_image_goes_to_the_registry_and_comes_back(engine, registry, model):
    digest = model.push_image()
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    there = requests.head(f"http://{registry}/v2/serving/tiny/manifests/1", headers=accept, timeout=10)
    assert there.headers["Docker-Content-Digest"] == digest

    before = engine.image(model.spec.image_uri).id
    engine.remove_image(model.spec.image_uri)
    model.pull_image_if_not_exists()
    assert engine.image(model.spec.image_uri).id == before

    twin = model.copy_image(f"{registry}/serving/twin:2")
    assert (twin.spec.image_uri, engine.image(twin.spec.image_uri).id) == (f"{registry}/serving/twin:2", before)
    assert twin.push_image() == digest


@pytest.mark.parametrize("name", ["tiny:1", "serving/tiny:1"])
def test_a_name_without_a_registry_is_a_value_error(engine, name):
    with pytest.raises(ValueError, match="must begin with a registry"):
        LocalModel(name, engine=engine).push_image()


def test_what_is_not_there_is_said(engine, registry):
    with pytest.raises(LackingError, match="cpr build DIR -t"):
        LocalModel(f"{registry}/serving/none:1", engine=engine).push_image()
    with pytest.raises(LackingError, match="cpr build DIR -t"):
        engine.tag("cpr-test/none:1", "cpr-test/twin:1")
    with pytest.raises(RegistryError, match="look at the name"):
        LocalModel(f"{registry}/serving/none:1", engine=engine).pull_image_if_not_exists()


def test_a_registry_that_does_not_answer_is_said(engine, model, registry):
    engine.tag(model.spec.image_uri, "127.0.0.1:9/serving/tiny:1")
    try:
        with pytest.raises(RegistryError, match="can be reached from here"):
            engine.push("127.0.0.1:9/serving/tiny:1", lambda _: None)
    finally:
        engine.remove_image("127.0.0.1:9/serving/tiny:1")


@pytest.mark.parametrize("registry", ["auth: {htpasswd: {realm: r, path: htpasswd}}"], indirect=True)
def test_without_rights_the_way_to_log_in_is_said(engine, model, registry):
    with pytest.raises(RegistryError, match=f"docker login {registry}"):
        model.push_image()


def test_a_process_has_no_image_to_push():
    with pytest.raises(EngineUnavailable, match="start Docker"):
        LocalModel("us-docker.pkg.dev/p/r/i:1", engine=ProcessEngine()).push_image()
