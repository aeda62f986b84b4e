"""Each template on a base of the kind that it is for, built and asked.

Bases are made here: Vertex AI's and NVIDIA's registries are out of reach of a test, and so are GPUs. That a container gets
them is up to the two variables that the `cuda` template sets; that torch finds them cannot be tested here.
"""

import contextlib
import io
import tarfile

import docker
import pytest

from cpr_kit.build import image
from cpr_kit.config import Config
from cpr_kit.compat.local_model import LocalModel
from cpr_kit.engine import builder
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.protocol import Build
from cpr_kit.errors import BuildError, ConfigError, EngineUnavailable, SpecError
from cpr_kit.harness import checks
from cpr_kit.harness.endpoint import LocalEndpoint
from cpr_kit.harness.target import Target, samples_of

pytestmark = pytest.mark.engine

BARE = "cpr-kit-e2e/debian-without-python:bookworm"
BASE = "python:3.11-slim"
TAG = "cpr-kit-e2e/template:latest"
WITHOUT_PYTHON = f"""
FROM {BASE}
RUN dpkg --purge --force-all $(dpkg-query -W -f '${{Package}}\\n' | grep python) \\
    && rm -rf /usr/bin/python* /usr/lib/python3* && ! command -v python3
"""
OLD_PYTHON = '#!/bin/sh\\ncase "$1" in --version) echo "Python 3.9.2";; *) exit 1;; esac\\n'


@pytest.fixture(params=["buildkit", "classic"])
def engine(request):
    engine = DockerEngine(builder=request.param)
    try:
        builder.find(request.param)
    except ConfigError as error:
        pytest.skip(str(error))
    yield engine
    engine.remove_image(TAG)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A Debian that has no Python, as nvidia/cuda's images have none."""
    engine = DockerEngine()
    folder = tmp_path_factory.mktemp("bare")
    (folder / "Dockerfile").write_text(WITHOUT_PYTHON)
    engine.build(Build(context=folder, tag=BARE), lambda line: None)
    yield BARE
    engine.remove_image(BARE)


@pytest.fixture
def derived(tmp_path):
    """derived(engine, text, tag): a small image of one's own; removed at the end."""
    made = []

    def make(engine, text, tag):
        folder = tmp_path / tag.rpartition("/")[2].partition(":")[0]
        folder.mkdir()
        (folder / "Dockerfile").write_text(text)
        made.append((engine, tag))
        return engine.build(Build(context=folder, tag=tag), lambda line: None)

    yield make
    for engine, tag in made:
        engine.remove_image(tag)


def changed(project, **lines):
    """The project, with keys of its [image] section."""
    path = project / "cpr.toml"
    head, section, rest = path.read_text().partition("[image]\n")
    assert section
    path.write_text(head + section + "".join(f"{key} = {value}\n" for key, value in lines.items()) + rest)
    return Config.read(project, environ={})


def built(config, engine):
    return image.build(config, engine, tag=TAG)


def broken(spec, engine, config=None, artifacts=None):
    """The rules of the contract suite that the image breaks."""
    with LocalEndpoint(spec, engine, artifact_uri=artifacts) as endpoint:
        found = checks.run(Target.of(endpoint), samples_of(config) if config else ())
    return [f"{check.name}: {check.detail}" for check in found if not check.passed]


def attributes(tag):
    with contextlib.closing(docker.from_env()) as client:
        return client.images.get(tag).attrs


def names_in(tag, folder):
    """The names below a folder of an image; nothing is run."""
    with contextlib.closing(docker.from_env()) as client:
        container = client.containers.create(tag)
        try:
            chunks, _ = container.get_archive(folder)
            return {member.name for member in tarfile.open(fileobj=io.BytesIO(b"".join(chunks)))}
        finally:
            container.remove()


def test_cuda_installs_the_distributions_python_on_a_base_without_one(project, bare):
    engine = DockerEngine()  # one builder: most of this test is apt-get's time
    config = changed(project, base=f'"{bare}"', template='"cuda"')
    try:
        spec = built(config, engine)
        _check_cuda(spec, engine, config, project / "model")
    finally:
        engine.remove_image(TAG)


def _check_cuda(spec, engine, config, artifacts):
    assert broken(spec, engine, config, artifacts) == []
    env = engine.image(TAG).env
    assert (env["NVIDIA_VISIBLE_DEVICES"], env["NVIDIA_DRIVER_CAPABILITIES"]) == ("all", "compute,utility")
    assert attributes(TAG)["Config"]["User"] == "65534:65534"
    assert names_in(TAG, "/var/lib/apt/lists") == {"lists"}


def test_python_says_what_such_a_base_lacks(project, bare):
    engine = DockerEngine()
    with pytest.raises(BuildError, match="no python on its PATH"):
        built(changed(project, base=f'"{bare}"'), engine)


# What a prebuilt image may be like: an old Python on the PATH, its own one in a place of its own with packages that no
# index has, a server, a user, a port, and words for its own server all over it.
PREBUILT = f"""
FROM {BASE}
RUN python3 -m venv /opt/conda \\
    && site=$(/opt/conda/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \\
    && echo "value = 7" > $site/only_in_the_base.py && mkdir $site/only_in_the_base-1.0.dist-info \\
    && printf 'Metadata-Version: 2.1\\nName: only-in-the-base\\nVersion: 1.0\\n' > $site/only_in_the_base-1.0.dist-info/METADATA \\
    && printf '{OLD_PYTHON}' > /usr/local/bin/python3 && chmod 755 /usr/local/bin/python3 \\
    && ln -s python3 /usr/local/bin/python
ENV AIP_HTTP_PORT=5000 AIP_HEALTH_ROUTE=/ping AIP_STORAGE_URI=gs://elsewhere PYTHONHOME=/nowhere
USER 1000
SHELL ["/bin/false", "-c"]
HEALTHCHECK CMD ["false"]
STOPSIGNAL SIGKILL
ENTRYPOINT ["/bin/false"]
CMD ["--port=5000"]
"""


def test_prebuilt_finds_the_bases_python_and_packages_and_resets_its_start(project, engine, derived):
    derived(engine, PREBUILT, "cpr-kit-e2e/prebuilt:latest")
    with (project / "requirements.txt").open("a") as file:
        file.write("\nonly-in-the-base==1.0\n")
    predictor = project / "predictor.py"
    predictor.write_text("import only_in_the_base\n" + predictor.read_text())
    config = changed(project, base='"cpr-kit-e2e/prebuilt:latest"', template='"prebuilt"')
    spec = built(config, engine)
    assert broken(spec, engine, config, project / "model") == []
    said = attributes(TAG)["Config"]
    assert said["Entrypoint"] == ["python", "-m", "cpr_kit.runtime"]
    assert not said["Cmd"]
    assert (said["User"], said["StopSignal"], said["Healthcheck"]["Test"]) == ("65534:65534", "SIGTERM", ["NONE"])
    env = engine.image(TAG).env
    assert {env[name] for name in ("AIP_HTTP_PORT", "AIP_HEALTH_ROUTE", "AIP_STORAGE_URI", "PYTHONHOME")} == {""}
    # A second image on top of the first, as a base that was made from the template itself.
    assert not any("only_in_the_base" in name for name in names_in(TAG, "/opt/cpr"))


def test_prebuilt_tells_of_a_python_for_root_alone(project, derived):
    engine = DockerEngine()
    moved = "mkdir -p /root/py/bin && mv /usr/bin/python3.11 /root/py/bin/ && ln -sf /root/py/bin/python3.11 /usr/bin/python3"
    text = f"FROM {BASE}\nRUN {moved} && chmod 700 /root\n"
    derived(engine, text, "cpr-kit-e2e/roots:latest")
    config = changed(project, base='"cpr-kit-e2e/roots:latest"', template='"prebuilt"')
    with pytest.raises(BuildError, match="uid 65534 cannot start the base image's Python"):
        built(config, engine)


APP = """
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request


@asynccontextmanager
async def lifespan(app):
    yield {"factor": 2}


app = FastAPI(lifespan=lifespan)


@app.get("/ping")
def health():
    return {}


@app.post("/ask")
async def predict(request: Request):
    return {"predictions": [request.state.factor * each for each in (await request.json())["instances"]]}
"""
APP_TOML = """
[model]
app = "main:app"
[image]
predict_route = "/ask"
health_route = "/ping"
ports = [9000]
"""


@pytest.fixture
def application(tmp_path):
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "main.py").write_text(APP)
    (folder / "cpr.toml").write_text(APP_TOML)
    return folder


def test_fastapi_serves_the_users_own_application(application, engine):
    spec = built(Config.read(application, environ={}), engine)
    assert (spec.predict_route, spec.health_route, spec.ports) == ("/ask", "/ping", (9000,))
    assert broken(spec, engine) == []
    with LocalEndpoint(spec, engine) as endpoint:
        assert endpoint.predict(instances=[1, 2.5]).predictions == [2, 5]
    logs = endpoint.container.logs()
    assert "POST /ask, GET /ping on port 9000" in logs
    assert endpoint.container.exit_code() == 0
    assert checks.listens_on_its_port(spec, engine).passed


SERVER = """
import http.server, json, os, signal, sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200 if self.path == "/v1/models/it" else 404, {"argument": sys.argv[1:]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(200, {"predictions": [[each, *sys.argv[2:], os.environ["SAID"]] for each in body["instances"]]})

    def answer(self, status, value):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_):
        pass


# As the first process of a container nothing would end it otherwise.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""
OWN = f"""
FROM {BASE}
WORKDIR /srv
COPY server.py ./
RUN ln -s /srv/server.py /srv/serve
EXPOSE 8501
ENTRYPOINT ["python3", "server.py"]
CMD ["8501", "default"]
"""
FOREIGN_TOML = """
[image]
template = "foreign"
base = "cpr-kit-e2e/server:latest"
command = ["python3", "/srv/server.py"]
args = ["$(AIP_HTTP_PORT)", "model=$(AIP_STORAGE_URI)", "$$(X)", 'a "b" $HOME']
predict_route = "/v1/models/it:predict"
health_route = "/v1/models/it"
shared_memory_mb = 32
env = { SAID = "hello $USER" }
"""


@pytest.fixture
def server(tmp_path):
    """A folder with a server of its own, and a Dockerfile for it."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "server.py").write_text(SERVER)
    (folder / "Dockerfile").write_text(OWN)
    return folder


def test_foreign_adds_no_layer_and_starts_as_it_is_told(server, tmp_path, engine):
    engine.build(Build(context=server, tag="cpr-kit-e2e/server:latest"), lambda line: None)
    project = tmp_path / "foreign"
    project.mkdir()
    (project / "cpr.toml").write_text(FOREIGN_TOML)
    try:
        spec = built(Config.read(project, environ={}), engine)
        assert spec.ports == (8501,)
        assert spec.shared_memory_size_mb == 32
        base, made = attributes("cpr-kit-e2e/server:latest"), attributes(TAG)
        assert made["RootFS"]["Layers"] == base["RootFS"]["Layers"]
        assert made["Config"]["Entrypoint"] == base["Config"]["Entrypoint"]
        assert broken(spec, engine) == []
        with LocalEndpoint(spec, engine) as endpoint:
            assert endpoint.predict(instances=[1]).predictions == [[1, "model=", "$(X)", 'a "b" $HOME', "hello $USER"]]
    finally:
        engine.remove_image(TAG)
        engine.remove_image("cpr-kit-e2e/server:latest")


def test_foreign_needs_a_container_engine(tmp_path):
    from cpr_kit.engine.process import ProcessEngine

    (tmp_path / "cpr.toml").write_text(FOREIGN_TOML)
    with pytest.raises(EngineUnavailable, match="or a foreign image, is something that only a container engine"):
        image.build(Config.read(tmp_path, environ={}), ProcessEngine({"CPR_CACHE": str(tmp_path / "cache")}))


def test_a_dockerfile_of_ones_own_gives_a_model(server):
    engine = DockerEngine()
    environment = {"SAID": "from the specification"}
    try:
        model = LocalModel.from_dockerfile(
            server, image=TAG, predict_route="/p", health_route="/v1/models/it", env=environment, engine=engine
        )
        assert (model.spec.ports, model.spec.command) == ((8501,), ())
        with model.deploy_to_local_endpoint() as endpoint:
            assert endpoint.predict(instances=[1]).predictions == [[1, "default", "from the specification"]]
        # The same image, by its name, told what its Dockerfile says.
        named = LocalModel(
            TAG,
            serving_container_ports=[8501],
            serving_container_health_route="/v1/models/it",
            serving_container_predict_route="/p",
            serving_container_environment_variables=environment,
            engine=engine,
        )
        assert named.spec == model.spec
        assert named.serving_container_spec.ports[0].container_port == 8501
    finally:
        engine.remove_image(TAG)


def test_a_dockerfile_that_starts_nothing_is_told(server):
    (server / "Dockerfile").write_text(f"FROM {BASE}\nCMD []\n")
    engine = DockerEngine()
    try:
        with pytest.raises(SpecError, match="neither ENTRYPOINT nor CMD"):
            LocalModel.from_dockerfile(server, image=TAG, engine=engine)
    finally:
        engine.remove_image(TAG)
