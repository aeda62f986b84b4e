"""Images under the emulator: pushed to its registry by the kit and by `docker`, taken in at upload, and kept apart."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
import requests


from google.cloud import aiplatform

from cpr_kit import LocalModel
from cpr_kit.emulator import registry
from cpr_kit.emulator.app import Emulator
from cpr_kit.emulator.errors import ApiError
from cpr_kit.emulator.program import environment
from cpr_kit.emulator.proxy.environment import Files, Images, shell_lines, unset_lines, variables
from cpr_kit.emulator.registry import Registry
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.engine.protocol import Build
from cpr_kit.errors import LackingError, RegistryError, UsageError

NAME = "us-central1-docker.pkg.dev/my-project/cpr-kit-test/tiny"
SHIM = Path(registry.__file__).with_name("docker.sh")
ACCEPT = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}

# ---- with an engine


@pytest.fixture(scope="module")
def docker_engine():
    return DockerEngine()


@pytest.fixture
def program():
    """The registry's program must be here for a test that is about it."""
    if not any(map(shutil.which, registry.PROGRAMS)):
        missing = pytest.fail if os.environ.get("CPR_REQUIRE_ENGINE") == "1" else pytest.skip
        missing("docker-registry is not installed")


@pytest.fixture
def image(docker_engine):
    """image("text") -> the id of an image of a single file, which has the name NAME:1 from then on."""

    def make(text, name=f"{NAME}:1"):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo("text")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        made.add(name)
        made.add(identity := docker_engine.import_archive([archive.getvalue()], name, ["CMD /text"]).id)
        return identity

    made = set()
    yield make
    for each in sorted(made, reverse=True):  # names before ids
        docker_engine.remove_image(each)


@pytest.fixture
def notes():
    return []


@pytest.fixture
def started(docker_engine, program, tmp_path, notes):
    """A registry of its own."""
    made = Registry(tmp_path / "images", tmp_path, notes.append)
    made.start(docker_engine)
    yield made
    made.close()


@pytest.fixture
def emulator(docker_engine, program, notes):
    with Emulator(engine=docker_engine, note=notes.append) as emulator, environment(emulator.environment):
        aiplatform.init(project="my-project", location="us-central1", api_endpoint=emulator.url, api_transport="rest")
        yield emulator


def names_of(engine, identity):
    attrs = engine._client.images.get(identity).attrs
    return {*attrs["RepoTags"], *attrs["RepoDigests"]}


def docker(*words, **options):
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120, **options)


def push(docker_engine, address, monkeypatch, name=f"{NAME}:1"):
    monkeypatch.setenv("CPR_REGISTRY", address)
    return docker_engine.push(name, lambda _: None)


def upload(name=f"{NAME}:1"):
    return aiplatform.Model.upload(
        display_name="tiny",
        serving_container_image_uri=name,
        serving_container_predict_route="/p",
        serving_container_health_route="/h",
    )


@pytest.mark.engine
class TestRegistry:
    def test_the_kit_pushes_there_and_pulls_from_there(self, emulator, docker_engine, image):
        identity = image("one")
        model = LocalModel(f"{NAME}:1", engine=docker_engine)
        digest = model.push_image()
        there = requests.head(f"http://{os.environ['CPR_REGISTRY']}/v2/{NAME}/manifests/1", headers=ACCEPT, timeout=10)
        assert there.headers["Docker-Content-Digest"] == digest
        assert names_of(docker_engine, identity) == {f"{NAME}:1"}

        docker_engine.remove_image(f"{NAME}:1")
        assert docker_engine.image(identity) is None
        model.pull_image_if_not_exists()
        assert docker_engine.image(f"{NAME}:1").id == identity
        assert names_of(docker_engine, identity) == {f"{NAME}:1"}

    def test_what_was_not_pushed_cannot_be_pulled(self, emulator, docker_engine):
        with pytest.raises(RegistryError, match=f"only what was pushed is there: docker push {NAME}:never"):
            docker_engine.pull(f"{NAME}:never", lambda _: None)
        with pytest.raises(LackingError, match="there is no image"):
            docker_engine.push(f"{NAME}:never", lambda _: None)
        with pytest.raises(RegistryError, match="only what was pushed is there"):
            docker_engine.pull(f"{NAME}@sha256:{'0' * 64}", lambda _: None)

    def test_what_was_pushed_is_pulled_by_its_digest(self, emulator, docker_engine, image):
        identity = image("one")
        digest = docker_engine.push(f"{NAME}:1", lambda _: None)
        name = f"{NAME}@{digest}"
        assert docker_engine.image(name) is None
        docker_engine.remove_image(f"{NAME}:1")
        assert docker_engine.image(identity) is None
        for pull in (lambda: docker_engine.pull(name, lambda _: None), lambda: docker("pull", name)):
            pull()
            found = docker_engine.image(name)
            assert (found.id, found.reference) == (identity, name)
            assert names_of(docker_engine, identity) == {f"{NAME}:{digest.replace(':', '-')}"}
            docker_engine.remove_image(f"{NAME}:{digest.replace(':', '-')}")
        model = aiplatform.Model.upload(display_name="tiny", serving_container_image_uri=name)
        assert model.container_spec.image_uri == name

    def test_the_docker_client_pushes_there_and_pulls_from_there(self, emulator, docker_engine, image):
        identity = image("one")
        done = docker("push", f"{NAME}:1")
        assert done.returncode == 0, done.stderr
        assert "digest: sha256:" in done.stdout
        assert docker("image", "push", "--quiet", f"{NAME}:1").stdout == f"{NAME}:1\n"
        assert names_of(docker_engine, identity) == {f"{NAME}:1"}

        assert docker("rmi", f"{NAME}:1").returncode == 0
        assert docker("pull", "-q", f"{NAME}:1").stdout == f"{NAME}:1\n"
        assert docker_engine.image(f"{NAME}:1").id == identity
        assert names_of(docker_engine, identity) == {f"{NAME}:1"}

    def test_the_docker_client_says_what_is_not_there(self, emulator):
        done = docker("pull", f"{NAME}:never")
        assert (done.returncode, f"nobody has pushed {NAME}:never" in done.stderr) == (1, True)
        done = docker("push", f"{NAME}:never")
        assert (done.returncode, "No such image" in done.stderr) == (1, True)

    def test_it_ends_with_the_emulator(self, docker_engine, program):
        with Emulator(engine=docker_engine) as emulator:
            address = emulator.environment["CPR_REGISTRY"]
            assert requests.get(f"http://{address}/v2/", timeout=10).status_code == 200
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{address}/v2/", timeout=10)

    @pytest.mark.parametrize("also", ["", "and its reaper"])
    def test_it_ends_with_an_emulator_that_is_killed(self, program, also):
        command = [sys.executable, "-m", "cpr_kit", "emulate", "--engine", "docker", "--json"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CPR_")}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ) as process:
            address = json.loads(process.stdout.readline())["environment"]["CPR_REGISTRY"]
            assert requests.get(f"http://{address}/v2/", timeout=10).status_code == 200
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            reapers = [
                int(child)
                for child in children.read_text().split()
                if b"reaper" in Path(f"/proc/{child}/cmdline").read_bytes()
            ]
            assert len(reapers) == 1
            if also:
                os.kill(reapers[0], signal.SIGKILL)
            process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                requests.get(f"http://{address}/v2/", timeout=10)
            except requests.ConnectionError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the registry outlived the emulator")

    def test_no_page_of_a_browser_is_let_in(self, started):
        url = f"http://{started.address}/v2/"
        assert requests.get(url, timeout=10).status_code == 200
        assert requests.get(url, headers={"Host": "evil.example"}, timeout=10).status_code == 403
        headers = {"Origin": "https://evil.example"}
        assert requests.post(f"{url}x/blobs/uploads/", headers=headers, timeout=10).status_code == 403
        assert requests.post(f"{url}x/blobs/uploads/", timeout=10).status_code == 202

    def test_nothing_is_deleted(self, started, docker_engine, image, monkeypatch):
        image("one")
        digest = push(docker_engine, started.address, monkeypatch)
        url = f"http://{started.address}/v2/{NAME}/manifests/{digest}"
        assert requests.delete(url, timeout=10).status_code == 405
        assert requests.get(url, headers=ACCEPT, timeout=10).status_code == 200

    def test_what_was_pushed_is_the_users_alone(self, started, tmp_path):
        assert (tmp_path / "images").stat().st_mode & 0o777 == 0o700

    def test_a_file_where_its_folder_should_be(self, docker_engine, program, tmp_path):
        state = tmp_path / "s.db"
        (tmp_path / "s.db.registry").touch()
        with pytest.raises(UsageError, match=r"s\.db\.registry \(File exists\).*give --state another file"):
            Emulator(engine=docker_engine, state=state).start()

    def test_nothing_is_made_beside_a_state_that_cannot_be(self, docker_engine, program, tmp_path):
        with pytest.raises(UsageError, match="cannot be used as the emulator's state"):
            Emulator(engine=docker_engine, state=tmp_path / "nope" / "x.db").start()
        assert not list(tmp_path.iterdir())

    def test_what_was_pushed_survives_with_the_state(self, docker_engine, program, image, tmp_path):
        state = tmp_path / "state.sqlite"
        identity = image("one")
        with Emulator(engine=docker_engine, state=state) as emulator, environment(emulator.environment):
            docker_engine.push(f"{NAME}:1", lambda _: None)
        docker_engine.remove_image(f"{NAME}:1")
        with Emulator(engine=docker_engine, state=state) as emulator, environment(emulator.environment):
            docker_engine.pull(f"{NAME}:1", lambda _: None)
            assert docker_engine.image(f"{NAME}:1").id == identity

    def test_without_the_program_images_stay_in_the_engine(self, docker_engine, image, monkeypatch):
        monkeypatch.setattr(registry, "PROGRAMS", ("no-such-registry",))
        identity = image("one")
        with Emulator(engine=docker_engine) as emulator, environment(emulator.environment):
            assert LocalModel(f"{NAME}:1", engine=docker_engine).push_image() == identity
            LocalModel(f"{NAME}:1", engine=docker_engine).pull_image_if_not_exists()
            done = docker("push", f"{NAME}:1")
            assert (done.returncode, "stays in this machine's engine" in done.stderr) == (0, True)
            assert docker("pull", f"{NAME}:1").returncode == 0
            assert docker("push", f"{NAME}:2").returncode == 1
            assert docker("pull", f"{NAME}:2").returncode == 1
            with pytest.raises(LackingError, match="no image"):
                docker_engine.push(f"{NAME}:2", lambda _: None)

    def test_it_does_not_start_once_it_is_closed(self, docker_engine, program, tmp_path):
        made = Registry(tmp_path / "images", tmp_path, print)
        made.close()
        made.start(docker_engine)
        assert made.address == "engine"

    def test_a_program_that_does_not_start_is_told_of(self, docker_engine, tmp_path, monkeypatch, notes):
        (tmp_path / "bin").mkdir()
        broken = tmp_path / "bin" / "broken-registry"
        broken.write_text("#!/bin/sh\necho no such option >&2\nexit 2\n")
        broken.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        monkeypatch.setattr(registry, "PROGRAMS", ("broken-registry",))
        (tmp_path / "scratch").mkdir()
        made = Registry(tmp_path / "images", tmp_path / "scratch", notes.append)
        made.start(docker_engine)
        made.close()
        assert made.address == "engine"
        assert notes == [f"{broken} does not start (no such option): pushed images stay in the engine"]


@pytest.mark.engine
class TestIngestion:
    def test_where_images_stay_in_the_engine_its_ids_are_the_digests(
        self, docker_engine, image, monkeypatch, tmp_path, notes
    ):
        monkeypatch.setattr(registry, "PROGRAMS", ())
        made = Registry(tmp_path / "images", tmp_path, notes.append)
        made.start(docker_engine)
        first = image("one")
        digest = push(docker_engine, made.address, monkeypatch)
        image("two")
        assert made.resolve(f"{NAME}@{digest}", made.ingest(f"{NAME}@{digest}")) == first
        with pytest.raises(ApiError, match="docker engine has no image sha256:0000"):
            made.ingest(f"{NAME}@sha256:{'0' * 64}")

    def test_what_was_pushed_counts_before_the_engines_own(self, started, docker_engine, image, monkeypatch, notes):
        first = image("one")
        push(docker_engine, started.address, monkeypatch)
        second = image("two")
        ingested = started.ingest(f"{NAME}:1")
        assert started.resolve(f"{NAME}:1", ingested) == first != second
        assert "which counts once it is pushed" in notes[0]

    def test_a_later_push_to_the_tag_changes_nothing(self, started, docker_engine, image, monkeypatch):
        first = image("one")
        push(docker_engine, started.address, monkeypatch)
        ingested = started.ingest(f"{NAME}:1")
        second = image("two")
        push(docker_engine, started.address, monkeypatch)
        assert started.resolve(f"{NAME}:1", ingested) == first
        assert started.resolve(f"{NAME}:1", started.ingest(f"{NAME}:1")) == second

    def test_an_image_that_the_engine_lost_is_pulled_by_its_digest(self, started, docker_engine, image, monkeypatch):
        first = image("one")
        push(docker_engine, started.address, monkeypatch)
        ingested = started.ingest(f"{NAME}:1")
        image("two")
        push(docker_engine, started.address, monkeypatch)
        docker_engine.remove_image(first)
        assert docker_engine.image(first) is None
        assert started.resolve(f"{NAME}:1", ingested) == first
        assert docker_engine.image(first) is not None
        started.close()
        assert docker_engine.image(first) is None, "what was pulled goes with the registry"

    def test_a_name_with_a_digest(self, started, docker_engine, image, monkeypatch):
        first = image("one")
        digest = push(docker_engine, started.address, monkeypatch)
        assert started.resolve(f"{NAME}@{digest}", None) == first

    def test_a_digest_means_what_was_pushed_whatever_the_tag_has_become(
        self, started, docker_engine, image, monkeypatch
    ):
        first = image("one")
        digest = push(docker_engine, started.address, monkeypatch)
        second = image("two")
        push(docker_engine, started.address, monkeypatch)
        assert started.resolve(f"{NAME}@{digest}", started.ingest(f"{NAME}@{digest}")) == first != second

    def test_a_digest_that_nobody_has_pushed(self, started, image):
        identity = image("one")
        for digest in (identity, f"sha256:{'0' * 64}"):
            with pytest.raises(ApiError, match=f"nobody has pushed {digest[:19]} under that name") as caught:
                started.ingest(f"{NAME}@{digest}")
            assert caught.value.code.name == "FAILED_PRECONDITION"

    def test_what_the_engine_alone_has(self, started, docker_engine, image):
        first = image("one")
        other = image("two", "cpr-kit-test/local:1")
        assert started.ingest(f"{NAME}:1") == first
        assert started.ingest("cpr-kit-test/local:1") == other

    def test_an_image_that_is_gone_is_not_another_one(self, started, docker_engine, image):
        ingested = started.ingest((image("one"), f"{NAME}:1")[1])
        docker_engine.remove_image(f"{NAME}:1")
        image("two")
        with pytest.raises(ApiError, match="is gone.*Upload the model again"):
            started.resolve(f"{NAME}:1", ingested)

    @pytest.mark.parametrize(
        "name", [f"{NAME}:Bad Tag!", f"{NAME.upper()}:1", f"{NAME}/../x", "us.gcr.io/", "gcr.io/a?b"]
    )
    def test_names_that_are_none(self, started, name):
        with pytest.raises(ApiError) as caught:
            started.ingest(name)
        assert caught.value.code.name == "FAILED_PRECONDITION"

    def test_a_registry_that_is_gone(self, started):
        started._closing.close()
        with pytest.raises(ApiError, match="registry at 127.0.0.1:.* does not answer"):
            started.ingest(f"{NAME}:1")

    def test_an_upload_says_where_it_looked(self, emulator):
        with pytest.raises(Exception, match=f"nobody has pushed it.*docker engine has none.*docker push {NAME}:never"):
            upload(f"{NAME}:never")
        with pytest.raises(Exception, match="no name at Artifact Registry"):
            upload("cpr-kit-test/never:1")

    def test_an_upload_takes_what_was_pushed(self, emulator, docker_engine, image, notes):
        image("one")
        docker_engine.push(f"{NAME}:1", lambda _: None)
        docker_engine.remove_image(f"{NAME}:1")
        assert upload().container_spec.image_uri == f"{NAME}:1"


SERVER = """
import http.server, json, os, signal

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"predictions": [os.environ["ANSWER"]]}).encode())
    do_POST = do_GET

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # as the first process of a container nothing else would end it
http.server.HTTPServer(("", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
"""


@pytest.mark.engine
def test_a_model_keeps_the_image_of_its_upload(emulator, docker_engine, tmp_path):
    """Also when its name, or its tag in the registry, has come to mean another image before it is deployed."""
    (tmp_path / "server.py").write_text(SERVER)
    built = []

    def build(answer):
        lines = ("FROM python:3.11-slim", "COPY server.py /", f"ENV ANSWER={answer}", 'CMD ["python", "/server.py"]')
        (tmp_path / "Dockerfile").write_text("\n".join(lines))
        built.append(docker_engine.build(Build(context=tmp_path, tag=f"{NAME}:server"), lambda _: None).id)

    try:
        build("first")
        model = upload(f"{NAME}:server")
        build("second")
        endpoint = model.deploy(machine_type="n1-standard-2")
        assert endpoint.predict(instances=[1]).predictions == ["first"]
        again = upload(f"{NAME}:server").deploy(machine_type="n1-standard-2")
        assert again.predict(instances=[1]).predictions == ["second"]
        for each in (endpoint, again):
            each.undeploy_all()
    finally:
        docker_engine.remove_image(f"{NAME}:server")
        for identity in built:
            docker_engine.remove_image(identity)


# ---- without one


def test_start_and_close_at_once(tmp_path):
    made = Registry(tmp_path / "images", tmp_path, print)
    threads = [threading.Thread(target=call) for call in (lambda: made.start(ProcessEngine()), made.close, made.close)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made.address, made.programs) == ("engine", None)


def test_with_the_process_engine_a_push_gives_the_images_id(monkeypatch, tmp_path):
    engine = ProcessEngine({**os.environ, "CPR_CACHE": str(tmp_path)})
    record = {"id": "sha256:1", "env": {}, "entrypoint": [], "ports": [], "entries": {}}
    engine._store.write(f"{NAME}:1", {"name": f"{NAME}:1", **record})
    monkeypatch.setenv("CPR_REGISTRY", "engine")
    assert LocalModel(f"{NAME}:1", engine=engine).push_image() == "sha256:1"
    LocalModel(f"{NAME}:1", engine=engine).pull_image_if_not_exists()
    with pytest.raises(LackingError, match=f"cpr build DIR -t {NAME}:2"):
        LocalModel(f"{NAME}:2", engine=engine).push_image()
    monkeypatch.delenv("CPR_REGISTRY")
    with pytest.raises(LackingError, match="only a container engine"):
        LocalModel(f"{NAME}:1", engine=engine).push_image()


def test_the_emulator_names_its_engine_and_no_registry():
    with Emulator(engine=ProcessEngine()) as emulator:
        named = emulator.environment
    assert (named["CPR_ENGINE"], named["CPR_REGISTRY"]) == ("process", "engine")
    assert "PATH" not in named


# ---- the `docker` of the emulator, before one that says what it was called with


@pytest.fixture
def client(tmp_path):
    """client("push", "x") -> (exit code, output, the real client's calls)"""
    own, real = tmp_path / "it's own", tmp_path / "real"
    own.mkdir()
    real.mkdir()
    shutil.copy(SHIM, own / "docker")
    calls = tmp_path / "calls"
    recorder = (
        f'#!{sys.executable}\nimport json, sys\nopen({str(calls)!r}, "a").write(json.dumps(sys.argv[1:]) + "\\n")\n'
    )
    (real / "docker").write_text(f'{recorder}sys.exit("inspect" in sys.argv)\n')
    for each in (own, real):
        (each / "docker").chmod(0o755)

    def call(*words, at="127.0.0.1:5000"):
        calls.write_text("")
        path = f"{own}:{own}:{real}:{os.environ['PATH']}"
        done = subprocess.run(
            ["docker", *words],
            env={**os.environ, "PATH": path, "CPR_REGISTRY": at},
            executable=own / "docker", capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr, [json.loads(line) for line in calls.read_text().splitlines()]

    call.own = own / "docker"
    return call


THERE = f"127.0.0.1:5000/{NAME}:1"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("run", "--rm", f"{NAME}:1", "sh", "-c", "echo 'a b' \"$x\""),
        ("push", "docker.io/library/x"),
        ("push", "example.com/us-docker.pkg.dev/x"),
        ("pull", "127.0.0.1:5000/x"),
        ("login", "-u", "me", "ghcr.io"),
        ("login",),
        ("build", "-t", f"{NAME}:1", "."),
        ("buildx", "build", "--push", "-t", "ghcr.io/me/x", "."),
        ("image", "ls", "*"),
        ("--context", "push", "ps"),
        ("push",),
    ],
)
def test_other_calls_are_the_real_clients_word_for_word(client, words):
    assert client(*words) == (0, "", [list(words)])


def test_a_push_is_tag_push_untag_with_the_options_that_were_given(client):
    code, _, calls = client("--config", "a 'b", "push", "--platform", "linux/amd64", f"{NAME}:1")
    config = ["--config", "a 'b"]
    assert (code, calls) == (
        0,
        [
            [*config, "tag", f"{NAME}:1", THERE],
            [*config, "push", "--platform", "linux/amd64", THERE],
            [*config, "rmi", THERE],
        ],
    )


def test_a_pull_is_pull_tag_untag(client):
    code, said, calls = client("image", "pull", "-q", f"{NAME}:1")
    assert (code, said) == (0, f"{NAME}:1\n")
    assert calls == [["pull", "-q", THERE], ["tag", THERE, f"{NAME}:1"], ["rmi", THERE]]


@pytest.mark.parametrize("host", ["us-central1-docker.pkg.dev", "https://gcr.io", "https://eu.gcr.io/my-project"])
def test_a_login_to_google_succeeds_and_takes_its_password(client, host):
    assert client("login", "-u", "oauth2accesstoken", "--password-stdin", host) == (0, "Login Succeeded\n", [])
    assert client("logout", host) == (0, "", [])


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_a_login_takes_all_of_its_password(client):
    """Or who writes it could be ended by its pipe."""
    script = 'set -o pipefail; head -c 1000000 /dev/zero | "$0" login --password-stdin gcr.io'
    assert subprocess.run(["bash", "-c", script, client.own], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("push", "-a", NAME), "one tag at a time"),
        (("push", NAME, "--all-tags"), "one tag at a time"),
        (("build", "--push", "-t", f"{NAME}:1", "."), f"docker push {NAME}:1"),
        (("buildx", "build", f"--tag={NAME}:1", "--output", "type=registry", "."), f"docker push {NAME}:1"),
    ],
)
def test_what_cannot_be_is_refused_and_goes_nowhere(client, words, said):
    code, output, calls = client(*words)
    assert (code, calls) == (1, [])
    assert said in output


# ---- a shell's PATH


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_keeps_its_own_path(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    programs = tmp_path / "it's $x"
    images = Images(engine="docker", registry="127.0.0.1:5000", programs=programs)
    files = Files(bundle=Path("b"), key=Path("k"), project="p")
    lines = shell_lines(variables(proxy_url="http://a:1", plain_url="http://a:2", files=files, images=images))
    show = 'printf "%s|%s\\n" "$PATH" "${CPR_REGISTRY-none}"'
    script = "\n".join(["set -eu", lines, show, lines, show, unset_lines(), show, unset_lines(), show])
    done = subprocess.run(
        [shutil.which(shell), "-c", script], env={"PATH": "/mine:/bin"}, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [f"{programs}:/mine:/bin|127.0.0.1:5000"] * 2 + ["/mine:/bin|none"] * 2, (
        done.stderr
    )
