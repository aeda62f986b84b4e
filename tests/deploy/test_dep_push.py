"""Images of the real engine to a real registry: what is sent, what is said, and what comes of broken connections."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import uuid

import pytest
from click.testing import CliRunner
from dep_registry import Relay, lacking, load, log_in, put, served_digest, serving

from cpr_kit.cli import push as cli
from cpr_kit.deploy.registry import credentials
from cpr_kit.deploy.registry.mirror import mirror
from cpr_kit.deploy.registry.push import _known, push
from cpr_kit.deploy.registry.remote import located, remote
from cpr_kit.emulator.program import emulate
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.errors import ConfigError, EngineUnavailable, LackingError, RegistryError, UsageError

MB = 1 << 20
HOST, OTHER, THIRD = (f"{region}-docker.pkg.dev" for region in ("us-central1", "europe-west4", "asia-east1"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def engine():
    return DockerEngine()


@contextlib.contextmanager
def images(engine):
    """make(*layers): an image and its name; none stays in the engine, nor do names that a test gave them."""
    made = []

    def make(*layers, name=None, architecture="amd64"):
        name = name or f"dep-push-{uuid.uuid4().hex[:8]}:1"
        made.append(name)
        if layers:
            load(engine, name, layers, architecture)
        return name

    yield make
    for name in made:
        if engine.image(name):
            engine.remove_image(name)


@pytest.fixture
def image(engine):
    with images(engine) as make:
        yield make


@contextlib.contextmanager
def begun(folder, target):
    """`cpr push` in a process of its own: the engine tries five times, with pauses of 5 to 20 seconds, before it gives
    up, and other tests run meanwhile."""
    command = [sys.executable, "-m", "cpr_kit", "push", project(folder, ""), "--image", target, "--engine", "docker"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def cut(engine, registry, tmp_path_factory):
    """A push over connections that all break: its process, the relay that breaks them and the image."""
    relay = Relay(registry.address, after=2 * MB, cuts=1000)
    with images(engine) as make, relay.serving():
        target = make(os.urandom(MB), os.urandom(4 * MB), name=f"{relay.address}/push/failed:1")
        with begun(tmp_path_factory.mktemp("cut") / "iris", target) as process:
            yield process, relay, target


@pytest.fixture(scope="module")
def full(engine, tmp_path_factory):
    """A push to a registry whose disk is too small: its process and the image; None where no disk can be made."""
    folder = tmp_path_factory.mktemp("full")
    with disk(folder / "disk") as (data, lack):
        if lack:
            yield None
            return
        with images(engine) as make, serving(folder / "registry", data=data) as registry:
            target = make(os.urandom(12 * MB), name=registry.name("push/full:1"))
            with begun(folder / "iris", target) as process:
                yield process, target


@pytest.mark.engine
@pytest.mark.usefixtures("cut", "full")
class TestEngine:
    def test_an_image_is_pushed_once(self, engine, registry, image):
        source, target, lines = image(b"base" * MB, b"code"), image(name=registry.name("push/once:1")), []
        pushed = push(engine, target, source=source, report=lines.append)
        assert pushed.digest == served_digest(target)
        assert pushed == remote(target)
        assert pushed.config == engine.image(source).id
        assert pushed.platforms == ("linux/amd64",)
        assert lines[0].startswith(f"pushing {target}, ")
        assert lines[-1].startswith("2 layers sent (")

        lines.clear()
        assert push(engine, target, source=source, report=lines.append) == pushed
        assert push(engine, target, report=lines.append) == pushed
        assert lines == [f"{target} is there already: {pushed.digest}"] * 2

    def test_only_the_layers_that_lack_are_sent(self, engine, registry, image):
        for version, layer in (("1", b"one"), ("2", b"two")):
            target, lines = image(b"the same base", layer, name=registry.name(f"push/layers:{version}")), []
            push(engine, target, report=lines.append)
        assert lines[-1].startswith("1 layers sent (")
        assert lines[-1].endswith("1 were there already")

    def test_a_large_layer_says_how_far_it_is_without_a_line_for_each_piece(self, engine, registry, image):
        target, lines = image(os.urandom(24 * MB), name=registry.name("push/large:1")), []
        push(engine, target, report=lines.append)
        assert 2 <= len(lines) <= 12
        assert "(25.2 MB unpacked)" in lines[-1]

    def test_what_is_not_here_or_not_for_vertex_is_refused(self, engine, registry, image):
        with pytest.raises(LackingError, match=f"cpr build DIR -t {registry.name('push/none:1')}"):
            push(engine, registry.name("push/none:1"))
        with pytest.raises(UsageError, match="is for linux/arm64, and Vertex AI runs linux/amd64"):
            push(engine, image(b"arm", name=registry.name("push/arm:1"), architecture="arm64"))
        with pytest.raises(ConfigError, match="give a tag"):
            push(engine, f"{registry.address}/push/none@sha256:{'0' * 64}")
        assert remote(registry.name("push/arm:1")) is None

    def test_a_login_is_used_and_its_lack_is_said(self, engine, image, tmp_path, monkeypatch):
        with serving(tmp_path / "closed", login=True) as closed:
            target = image(b"closed", name=closed.name("push/closed:1"))
            monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nobody"))
            with pytest.raises(RegistryError, match=f"docker login {closed.address}"):
                push(engine, target)
            monkeypatch.setenv("DOCKER_CONFIG", str(log_in(tmp_path / "docker", closed.address)))
            pushed = push(engine, target)
            assert remote(target) == pushed

    def test_a_connection_that_breaks_within_a_layer_is_taken_up_again(self, engine, registry, image):
        relay, lines = Relay(registry.address, after=2 * MB, cuts=1), []
        with relay.serving():
            target = image(os.urandom(6 * MB), name=f"{relay.address}/push/cut:1")
            pushed = push(engine, target, report=lines.append)
        assert relay.broken == 1
        assert pushed.digest == served_digest(registry.name("push/cut:1"))
        assert any(line.startswith("the connection broke at layer ") for line in lines)

    def test_under_an_emulator_the_image_goes_to_its_registry(self, engine, registry, image, monkeypatch):
        monkeypatch.setenv("CPR_REGISTRY", registry.address)
        target = image(b"emulated", name=f"{HOST}/p/r/push:1")
        pushed = push(engine, target)
        assert pushed.reference == target
        assert pushed.digest == served_digest(f"{registry.address}/{target}")
        assert located(engine, target).config == pushed.config
        assert engine.image(f"{registry.address}/{target}") is None
        assert push(engine, target) == pushed

    def test_without_a_registry_it_stays_in_the_engine(self, engine, image, monkeypatch):
        monkeypatch.setenv("CPR_REGISTRY", "engine")
        source, target, other = image(b"kept"), image(name=f"{HOST}/p/r/kept:1"), image(name=f"{OTHER}/p/r/kept:1")
        pushed = push(engine, target, source=source)
        assert pushed == located(engine, target)
        assert pushed.digest == pushed.config == engine.image(source).id
        assert mirror(target, other, engine=engine).digest == pushed.digest


def test_another_image_under_the_name_that_was_pushed_is_said(registry):
    """Somebody else pushed in the same moment: what would be deployed is not what was meant."""
    there = put(registry.name("push/raced:1"))
    found = remote(registry.name("push/raced:1"))
    assert _known(registry.name("push/raced:1"), found, there.digest) == found
    for other in (found, None):
        with pytest.raises(RegistryError, match="somebody else pushed the same name"):
            _known(registry.name("push/raced:1"), other, f"sha256:{'0' * 64}")


@contextlib.contextmanager
def disk(folder):
    """A disk of 8 MB, and why there is none: only root can make one."""
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or not mount:
        yield folder, "only root can mount a disk that is soon full"
        return
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=8m", "dep-disk", folder], capture_output=True, text=True)
    if made.returncode:
        yield folder, f"no disk can be mounted here: {made.stderr.strip()}"
        return
    try:
        yield folder, ""
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def small_disk(tmp_path):
    with disk(tmp_path / "disk") as (folder, lack):
        if lack:
            lacking(lack)
        yield folder


def test_a_full_disk_of_the_registry_is_said(small_disk, tmp_path, registry):
    put(registry.name("mirror/full:1"), layers=(os.urandom(12 * MB),))
    with (
        serving(tmp_path / "full", data=small_disk) as full,
        pytest.raises(RegistryError, match=r"no space left on device.*its disk is full"),
    ):
        mirror(registry.name("mirror/full:1"), full.name("mirror/full:1"))


@pytest.fixture
def process(tmp_path):
    """The process engine with one image, which nobody needs to run."""
    engine = ProcessEngine({"CPR_CACHE": str(tmp_path / "cache")})
    record = {"id": f"sha256:{'1' * 64}", "env": {}, "entrypoint": [], "ports": [8080], "entries": {}}
    engine._store.write("dep-process:1", {**record, "name": "dep-process:1"})
    return engine


def test_an_image_of_the_process_engine_is_named_in_each_region(process, monkeypatch):
    monkeypatch.setenv("CPR_REGISTRY", "engine")
    lines = []
    pushed = push(process, f"{HOST}/p/r/iris:1", source="dep-process:1", report=lines.append)
    assert pushed.digest == pushed.config == f"sha256:{'1' * 64}"
    assert lines == [f"{HOST}/p/r/iris:1 stays in the process engine: there is no registry under this cpr emulate"]
    assert mirror(f"{HOST}/p/r/iris:1", f"{OTHER}/p/r/iris:1", engine=process).digest == pushed.digest
    assert process.image(f"{OTHER}/p/r/iris:1").id == pushed.digest
    with pytest.raises(LackingError, match="cpr build"):
        push(process, f"{HOST}/p/r/none:1")


def test_a_process_cannot_be_pushed(process, registry):
    with pytest.raises(EngineUnavailable, match="start Docker"):
        push(process, registry.name("push/process:1"), source="dep-process:1")


def test_application_default_credentials_log_in_to_artifact_registry_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(log_in(tmp_path / "docker", "registry.example.com")))
    with emulate(engine="process", project="dep-push"):
        found = credentials.find(HOST)
        assert (found.login.source, found.login.username) == ("application-default credentials", "oauth2accesstoken")
        assert found.login.password
        assert found.login.password not in str(found)
        assert credentials.find("registry.example.com").login.username == "someone"
        assert credentials.find("127.0.0.1:5000").login is None


def project(folder, text):
    folder.mkdir()
    (folder / "cpr.toml").write_text(text)
    return str(folder)


@pytest.mark.engine
def test_the_command_pushes_once_and_mirrors_to_each_region(registry, image, tmp_path, monkeypatch):
    monkeypatch.setenv("CPR_REGISTRY", registry.address)
    monkeypatch.setenv("CPR_CACHE", str(tmp_path / "cache"))
    regions = '[deploy]\nregions = ["us-central1", "europe-west4", "asia-east1"]\n'
    name = image(b"regional", uuid.uuid4().bytes, name=f"{HOST}/p/r/regions:1")
    folder = project(tmp_path / "iris", f'[image]\nname = "{name}"\n{regions}')
    for pushed in (True, False):
        run = CliRunner().invoke(cli.command, [folder, "--engine", "docker", "--json"], catch_exceptions=False)
        told = json.loads(run.stdout)
        names = [name.replace(HOST, host) for host in (HOST, OTHER, THIRD)]
        assert told["references"] == [{"reference": each, "pushed": pushed} for each in names]
        assert (told["reference"], told["pushed"], told["platforms"]) == (name, pushed, ["linux/amd64"])
        assert {served_digest(f"{registry.address}/{each}") for each in names} == {told["digest"]}
    noted = json.loads((tmp_path / "cache" / "pushed.json").read_text())
    assert {each["digest"] for each in noted.values()} == {told["digest"]}
    assert os.listdir(folder) == ["cpr.toml"]


@pytest.mark.engine
def test_the_command_pushes_where_it_is_told(registry, image, tmp_path, monkeypatch):
    monkeypatch.setenv("CPR_CACHE", str(tmp_path / "cache"))
    name, target = image(b"told where"), image(name=registry.name("told/where:2"))
    arguments = [project(tmp_path / "iris", ""), "--image", name, "--to", target, "--engine", "docker"]
    run = CliRunner().invoke(cli.command, arguments, catch_exceptions=False)
    assert run.stdout.startswith(f"{target}  pushed: {served_digest(target)}, ")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("us-docker.pkg.dev/p/r/i:1", "us-central1-docker.pkg.dev/p/r/i"),
        ("iris:1", "not in Artifact Registry"),
    ],
)
def test_the_command_refuses_a_name_that_fits_no_region(name, said, tmp_path):
    folder = project(tmp_path / "iris", f'[image]\nname = "{name}"\n[deploy]\nregions = ["us-central1"]\n')
    run = CliRunner().invoke(cli.command, [folder, "--engine", "process"])
    assert isinstance(run.exception, ConfigError)
    assert said in str(run.exception)


def test_the_command_wants_a_registry(tmp_path):
    run = CliRunner().invoke(cli.command, [project(tmp_path / "iris", ""), "--engine", "process"])
    assert isinstance(run.exception, ConfigError)
    assert "names no registry" in str(run.exception)


# Last, since both have waited in the engine while the tests above ran.
@pytest.mark.engine
@pytest.mark.heavy
def test_a_push_that_failed_is_finished_by_the_next_run(cut, engine, registry):
    process, relay, target = cut
    said, _ = process.communicate()
    assert (process.returncode, "run this again: what arrived is kept" in said) == (RegistryError.exit_code, True), said
    assert relay.broken
    assert remote(registry.name("push/failed:1")) is None
    relay.cuts, lines = 0, []
    pushed = push(engine, target, report=lines.append)
    assert pushed.digest == served_digest(registry.name("push/failed:1"))
    assert lines[-1].startswith("1 layers sent (4.2 MB")
    assert lines[-1].endswith("1 were there already")


@pytest.mark.engine
@pytest.mark.heavy
def test_a_full_disk_of_the_registry_is_said_of_a_push(full):
    if full is None:
        lacking("only root can mount a disk that is soon full")
    process, target = full
    said, _ = process.communicate()
    assert (process.returncode, "its disk is full" in said) == (RegistryError.exit_code, True), said
    assert remote(target) is None
