"""Builds that fail, by both builders: one message with the cause and the next step, and nothing left behind."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from own_engine import BASE, OwnEngine, lack

from cpr_kit.build import image
from cpr_kit.config import Config, ImageSection, ModelSection
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.engine.protocol import Build
from cpr_kit.errors import BuildError

TAG = "cpr-kit-tests/fault:1"
NAP = "61.1379"
"""Seconds of sleep that nothing else on this machine asks for."""
CPR = """
import functools, sys
from cpr_kit.cli.main import main
from cpr_kit.engine import choose
choose.DockerEngine = functools.partial(choose.DockerEngine, builder=sys.argv.pop(1))
main()
"""
both = pytest.mark.parametrize("builder", ["buildkit", "classic"])


def start_engine() -> OwnEngine:
    if reason := lack():
        if os.environ.get("CPR_REQUIRE_ENGINE") == "1":
            pytest.fail(f"CPR_REQUIRE_ENGINE=1, but {reason}")
        pytest.skip(reason)
    return OwnEngine()


@pytest.fixture(scope="module")
def own():
    engine = start_engine()
    yield engine
    engine.close()


@pytest.fixture
def write(tmp_path):
    def write(dockerfile: str) -> Build:
        (tmp_path / "Dockerfile").write_text(dockerfile)
        return Build(context=tmp_path, tag=TAG)

    return write


def refused(engine, build, output=lambda _: None) -> BuildError:
    with pytest.raises(BuildError) as caught:
        engine.build(build, output)
    return caught.value


def asleep() -> bool:
    return subprocess.run(["pgrep", "-f", f"sleep {NAP}$"], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.engine
@both
def test_no_space_is_said_and_what_was_made_is_removed(own, write, builder):
    before = own.has()
    engine = DockerEngine(own.environ, builder=builder)
    error = refused(engine, write(f"FROM {BASE}\nRUN echo a > /a\nRUN head -c 200M /dev/zero > /big\n"))
    assert error.cause == "no space is left on the engine's disk"
    assert "docker system prune" in error.remedy
    assert error.exit_code == 3
    assert str(error).count("why: ") == 1
    assert own.has() == before


@pytest.mark.engine
@both
def test_an_engine_that_stops_midway_is_said_to_have_stopped(write, builder):
    own = start_engine()
    try:
        engine = DockerEngine(own.environ, builder=builder)
        threading.Thread(target=lambda: (wait_until(asleep), own.kill())).start()
        error = refused(engine, write(f"FROM {BASE}\nRUN sleep {NAP}\n"))
        assert "the container engine stopped" in error.cause
        assert error.step.endswith(f"RUN sleep {NAP}")
        assert error.exit_code == 3
    finally:
        own.close()
    assert not asleep()


@pytest.mark.engine
@both
def test_a_base_image_without_python_is_refused_in_words(own, project, builder):
    before = own.has()
    config = Config(
        folder=project, model=ModelSection(predictor="predictor:Doubler"), image=ImageSection(base=BASE, name=TAG)
    )
    with pytest.raises(BuildError) as caught:
        image.build(config, DockerEngine(own.environ, builder=builder))
    assert caught.value.cause == "the base image has no python on its PATH"
    assert caught.value.remedy == "choose one that has"
    assert caught.value.exit_code == 1
    assert own.has() == before


@pytest.mark.engine
@both
def test_a_base_image_without_a_shell_is_refused_in_words(own, write, builder):
    before = own.has()
    error = refused(DockerEngine(own.environ, builder=builder), write("FROM scratch\nCOPY Dockerfile /\nRUN true\n"))
    assert "the base image has no shell" in error.cause
    assert own.has() == before


@pytest.mark.engine
@both
def test_a_base_image_that_does_not_exist_is_named(own, write, builder):
    error = refused(DockerEngine(own.environ, builder=builder), write("FROM cpr-kit-tests/none:1\nRUN true\n"))
    assert error.cause.startswith("this machine has no image cpr-kit-tests/none:1")
    assert "docker pull cpr-kit-tests/none:1" in error.remedy
    assert error.exit_code == 3


@pytest.mark.engine
@both
@pytest.mark.parametrize(
    ("arguments", "cause", "code"),
    [
        ("--index-url http://127.0.0.1:9/simple six", "the package index at 127.0.0.1:9 cannot be reached", 3),
        ("--no-index cpr-kit-tests-no-such", 'the package index has no "cpr-kit-tests-no-such"', 1),
        ("--no-index ./a ./b", "the requirements contradict each other: ", 1),
    ],
)
def test_what_pip_prints_is_explained(write, tmp_path, builder, arguments, cause, code):
    for name, needs in (("a", '"b==2"'), ("b", "")):
        (tmp_path / name).mkdir()
        text = f'[project]\nname = "{name}"\nversion = "1"\ndependencies = [{needs}]\n'
        (tmp_path / name / "pyproject.toml").write_text(text)
    install = f"RUN pip install --no-build-isolation --retries 1 {arguments}"
    error = refused(DockerEngine(builder=builder), write(f"FROM python:3.11-slim\nCOPY . /w/\nWORKDIR /w\n{install}\n"))
    assert error.cause.startswith(cause)
    assert error.remedy
    assert error.exit_code == code


@pytest.mark.engine
@pytest.mark.parametrize(
    ("builder", "requirement", "cause"),
    [
        ("buildkit", "cpr-kit-tests-no-such-package", 'the package index has no "cpr-kit-tests-no-such-package"'),
        ("buildkit", "six==99", 'the package index has other versions, but no "six==99"'),
        ("buildkit", "starlette==0.16.0", "the requirements contradict each other: "),
        ("classic", "starlette==0.16.0", "the requirements contradict each other: "),
    ],
)
def test_requirements_that_cannot_be_met_are_explained(project, builder, requirement, cause):
    (project / "requirements.txt").write_text(f"{requirement}\n")
    engine = DockerEngine(builder=builder)
    config = Config(folder=project, model=ModelSection(predictor="predictor:Doubler"), image=ImageSection(name=TAG))
    before = tree(project)
    with pytest.raises(BuildError) as caught:
        image.build(config, engine)
    assert caught.value.cause.startswith(cause)
    assert "requirements.txt" in caught.value.remedy
    assert engine.image(TAG) is None
    assert tree(project) == before


def test_the_process_engine_explains_too(tmp_path, context):
    environ = {"CPR_CACHE": str(tmp_path / "cache"), "PIP_RETRIES": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    environ["PIP_CONFIG_FILE"] = os.devnull
    (context / "requirements" / "requirements.txt").write_text("cpr-kit-tests-no-such-package\n")
    engine = ProcessEngine({"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environ})
    error = refused(engine, Build(context=context, tag=TAG))
    assert error.cause == "the package index at 127.0.0.1:9 cannot be reached (connection refused)"
    assert error.exit_code == 3


@pytest.mark.engine
@both
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_build_that_is_stopped_leaves_nothing(own, project, tmp_path, builder, number, code):
    (project / "cpr.toml").write_text('[image]\nname = "cpr-kit-tests/fault:1"\ndockerfile = "Dockerfile"\n')
    (project / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo {number} > /a\nRUN sleep {NAP}\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before, files = own.has(), tree(project)
    argv = [sys.executable, "-c", CPR, builder, "build", str(project), "--engine", "docker"]
    environ = {**own.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(argv, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_until(asleep)
        os.killpg(process.pid, number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert said.count("the build was stopped; nothing of it is left") == 1
    assert "Traceback" not in said
    wait_until(lambda: not asleep() and not list(scratch.iterdir()))
    assert own.has() == before
    assert tree(project) == files


@pytest.mark.engine
def test_what_a_killed_program_left_is_removed_by_the_next_build(own, project, write, tmp_path):
    """The classic builder keeps the image of each step; nobody is there to remove it."""
    (project / "cpr.toml").write_text('[image]\nname = "cpr-kit-tests/fault:1"\ndockerfile = "Dockerfile"\n')
    (project / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo killed > /a\nRUN sleep {NAP}\n")
    before = own.has()
    environ = {**own.environ, "CPR_CACHE": str(tmp_path / "cache")}
    argv = [sys.executable, "-c", CPR, "classic", "build", str(project), "--engine", "docker"]
    with subprocess.Popen(argv, env=environ, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        wait_until(asleep)
        process.kill()
    wait_until(lambda: own.has()[1] == before[1])
    assert len(own.has()[0] - before[0]) == 1
    refused(DockerEngine(environ, builder="classic"), write(f"FROM {BASE}\nRUN false\n"))
    assert own.has() == before
    assert not list((tmp_path / "cache" / "unfinished").iterdir())


@pytest.mark.engine
def test_a_failed_classic_build_leaves_what_was_there_before(own, write):
    """A step from the cache is another build's; and a program can print what looks like the builder's own line."""
    engine = DockerEngine(own.environ, builder="classic")
    engine.build(write(f"FROM {BASE}\nRUN echo kept > /a\nRUN echo more > /b\n"), lambda _: None)
    before, (mine, *_) = own.has(), own.client.api.images(name=TAG)
    own.client.api.remove_image(TAG, noprune=True, force=True)
    refused(engine, write(f"FROM {BASE}\nRUN echo kept > /a\nRUN echo ' ---> {mine['Id'][7:19]}' && false\n"))
    gone = before[0] - own.has()[0]
    assert gone <= {mine["Id"]}
    assert own.has()[1] == before[1]


@pytest.mark.engine
def test_a_finished_classic_build_keeps_its_stages_as_the_cache(own, write):
    engine = DockerEngine(own.environ, builder="classic")
    dockerfile = f"FROM {BASE} AS one\nRUN echo stage > /s\nFROM {BASE}\nCOPY --from=one /s /s\n"
    engine.build(write(dockerfile), lambda _: None)
    lines = []
    engine.build(write(dockerfile + "RUN echo more > /m\n"), lines.append)
    assert lines.count(" ---> Using cache") == 2
    engine.remove_image(TAG)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    code = "from cpr_kit import Predictor\n\n\nclass Doubler(Predictor):\n    def load(self, uri): ...\n    def predict(self, x): ...\n"
    (folder / "predictor.py").write_text(code)
    return folder


def tree(folder):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}


def wait_until(check, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
