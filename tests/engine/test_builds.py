"""Builds, by both builders of Docker and by the process engine."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import pytest
from contexts import write_context, write_wheel

from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.engine.protocol import Build, Run
from cpr_kit.engine.reaper import reaper
from cpr_kit.errors import BuildError, EngineUnavailable

TAG = "cpr-kit-tests/build:1"


@pytest.fixture(params=["buildkit", "classic"])
def docker(request):
    engine = DockerEngine(builder=request.param)
    yield engine
    engine.remove_image(TAG)


@pytest.fixture
def write(tmp_path):
    def write(dockerfile: str) -> Build:
        (tmp_path / "Dockerfile").write_text(dockerfile)
        return Build(context=tmp_path, tag=TAG)

    return write


def refused(engine, build) -> BuildError:
    with pytest.raises(BuildError) as caught:
        engine.build(build, lambda _: None)
    return caught.value


@pytest.mark.engine
def test_a_build_streams_its_lines_and_says_which_builder_works(docker, write):
    lines = []
    image = docker.build(write("FROM python:3.11-slim\nRUN echo to-out; echo to-err >&2\n"), lines.append)
    assert image == docker.image(TAG)
    assert lines[0].startswith("builder: ")
    text = "\n".join(lines)
    assert "to-out" in text
    assert "to-err" in text
    assert "\x1b" not in text
    assert not any("\n" in line for line in lines)


@pytest.mark.engine
def test_arguments_and_no_cache_reach_the_build(docker, write):
    build = write("FROM python:3.11-slim\nARG WHO\nRUN echo hello $WHO; date +%N > /stamp\n")
    build = Build(context=build.context, tag=TAG, args={"WHO": "you there"}, no_cache=True)
    lines = []
    first = docker.build(build, lines.append)
    assert any(line.endswith("hello you there") for line in lines)
    assert docker.build(build, lambda _: None).id != first.id


@pytest.mark.engine
def test_dockerignore_is_honoured(docker, write, tmp_path):
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "kept.txt").write_text("x")
    (tmp_path / ".dockerignore").write_text("secret.txt\n")
    docker.build(
        write("FROM python:3.11-slim\nCOPY . /c/\nRUN test -f /c/kept.txt && ! test -e /c/secret.txt\n"), print
    )


@pytest.mark.engine
def test_a_failing_step_is_named_with_its_last_lines(docker, write):
    error = refused(docker, write("FROM python:3.11-slim\nRUN echo before\nRUN echo last words; exit 9\n"))
    assert error.step == "step 3/3: RUN echo last words; exit 9"
    assert error.tail[0] == "last words"
    assert "9" in error.tail[-1]
    assert "before" not in error.tail


@pytest.mark.engine
def test_a_missing_base_image_is_named_with_what_to_do(docker, write):
    error = refused(docker, write("FROM cpr-kit-tests.invalid/none:1\n"))
    assert "docker pull cpr-kit-tests.invalid/none:1" in error.remedy
    assert "cpr base cpr-kit-tests.invalid/none:1" in error.remedy


@pytest.mark.engine
def test_a_wrong_dockerfile_is_a_build_error(docker, write):
    assert "unknown instruction: NONSENSE" in str(refused(docker, write("FROM python:3.11-slim\nNONSENSE x\n")))


@pytest.mark.engine
def test_a_platform_that_cannot_be_made_is_an_error_and_leaves_no_image(docker, write):
    build = write("FROM python:3.11-slim\nRUN true\n")
    error = refused(docker, Build(context=build.context, tag=TAG, platform="linux/s390x"))
    assert "linux/s390x" in str(error)
    assert docker.image(TAG) is None


@pytest.mark.engine
def test_ctrl_c_in_a_build_leaves_no_builder_behind(docker, write, wait_for):
    def interrupt(line: str) -> None:
        if "RUN" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        docker.build(write("FROM python:3.11-slim\nRUN sleep 30\n"), interrupt)
    assert not [kind for kind, _ in reaper()._held if kind == "process"]


def engine_in(folder):
    """A process engine with a cache of its own, whose pip sees no index but the folder `wheels`."""
    (folder / "wheels").mkdir()
    cache, wheels = str(folder / "cache"), str(folder / "wheels")
    return ProcessEngine({**os.environ, "CPR_CACHE": cache, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels})


@pytest.fixture
def process(tmp_path):
    return engine_in(tmp_path)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """An engine that has built the context of `context` once: the engine, the image and the build's lines."""
    folder, lines = tmp_path_factory.mktemp("warm"), []
    engine = engine_in(folder)
    image = engine.build(Build(context=write_context(folder / "context"), tag=TAG), lines.append)
    return engine, image, lines


def installs(lines):
    return any("-m venv" in line or "pip install" in line for line in lines)


def test_the_process_engine_installs_once_for_the_same_requirements(warm, context):
    engine, first, lines = warm
    assert installs(lines)
    again = []
    assert engine.build(Build(context=context, tag=TAG), again.append) == first
    assert not installs(again)


def test_an_edit_of_the_code_or_the_kit_does_not_install_again(warm, context):
    engine, first, _ = warm
    again = []
    (context / "code" / "more.py").write_text("")
    second = engine.build(Build(context=context, tag=TAG), again.append)
    write_wheel(context / "kit", body="VALUE = 2\n")
    third = engine.build(Build(context=context, tag=TAG), again.append)
    assert len({first.id, second.id, third.id}) == 3
    assert not installs(again)


def test_the_process_engine_installs_the_kits_dependencies_requirements_and_extra_packages(process, tmp_path):
    context = write_context(tmp_path / "context", requirements="# words\nleaf\n", requires=("twig", 'no; extra == "x"'))
    write_wheel(tmp_path / "wheels", "leaf")
    write_wheel(tmp_path / "wheels", "twig")
    extra = write_wheel(context / "packages", "bough")
    manifest = json.loads((context / "image.json").read_text())
    (context / "image.json").write_text(json.dumps({**manifest, "extra_packages": [f"packages/{extra.name}"]}))
    lines = []
    process.build(Build(context=context, tag=TAG), lines.append)
    assert lines[-2].split()[:2] == ["Successfully", "installed"]
    assert set(lines[-2].split()[2:]) == {"bough-1.0", "leaf-1.0", "twig-1.0"}


def test_a_requirement_that_no_index_has_is_a_build_error_with_pips_lines_and_is_tried_again(process, tmp_path):
    context = write_context(tmp_path / "context", requirements="cpr-kit-tests-late\n")
    error = refused(process, Build(context=context, tag=TAG))
    assert error.step == "pip install"
    assert "cpr-kit-tests-late" in "\n".join(error.tail)
    assert process.image(TAG) is None
    write_wheel(tmp_path / "wheels", "cpr_kit_tests_late")
    process.build(Build(context=context, tag=TAG), lambda _: None)
    assert process.image(TAG)


def test_a_users_own_dockerfile_needs_a_container_engine(process, context):
    (context / "image.json").unlink()
    with pytest.raises(EngineUnavailable, match="only a container engine"):
        process.build(Build(context=context, tag=TAG), lambda _: None)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kit": "no.whl"}'])
def test_a_broken_image_json_is_a_build_error(process, context, text):
    (context / "image.json").write_text(text)
    assert refused(process, Build(context=context, tag=TAG)).step == "reading image.json"


def test_prune_removes_what_no_image_refers_to_and_spares_what_runs(process, context, started, tmp_path):
    process.build(Build(context=context, tag=TAG), lambda _: None)
    assert process.prune() == []
    port = process.listen_port(8080, None)
    container = process.run(Run(image=TAG, port=port, env={"AIP_HTTP_PORT": str(port)}))
    started.append(container)
    process.remove_image(TAG)
    assert process.image(TAG) is None
    assert process.prune() == []
    container.remove()
    assert len(process.prune()) == 3
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_the_working_folder_of_a_process_is_its_own(warm, context, wait_for, started):
    process, _, _ = warm
    process.build(Build(context=context, tag=TAG), lambda _: None)
    for _ in range(2):
        port = process.listen_port(8080, None)
        container = process.run(Run(image=TAG, port=port, env={"AIP_HTTP_PORT": str(port)}))
        started.append(container)
        wait_for(lambda c=container: "out: again" in c.logs())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
            seen = json.loads(response.read())
        folder = seen["cwd"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/write?path=new.txt", timeout=5):
            pass
        assert sorted(path.name for path in Path(folder).iterdir()) == ["new.txt", "server.py"]
        container.remove()
        assert not Path(folder).parent.exists()


def test_a_process_gets_little_of_the_hosts_environment(warm, context, wait_for, started):
    there = {"GOOGLE_CLOUD_PROJECT": "mine", "AIP_STORAGE_URI": "x", "https_proxy": "p"}
    process = ProcessEngine({**warm[0]._environ, **there})
    process.build(Build(context=context, tag=TAG), lambda _: None)
    port = process.listen_port(8080, None)
    container = process.run(Run(image=TAG, port=port, env={"AIP_HTTP_PORT": str(port)}))
    started.append(container)
    wait_for(lambda: "out: again" in container.logs())
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
        env = json.loads(response.read())["env"]
    assert "GOOGLE_CLOUD_PROJECT" not in env
    assert "AIP_STORAGE_URI" not in env
    assert env["https_proxy"] == "p"
    assert env["CPR_SERVE_HOST"] == "127.0.0.1"
