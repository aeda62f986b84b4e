"""requirements.lock, made by the real uv against the index of this machine."""

import re
import shutil
from pathlib import Path

import pytest

from cpr_kit.build import context, lock
from cpr_kit.build.source import Source
from cpr_kit.config import Config, ImageSection, ModelSection
from cpr_kit.errors import ConfigError, LackingError, SourceError

GOOD = Path(__file__).parent / "folders" / "good"


@pytest.fixture
def project(tmp_path):
    shutil.copytree(GOOD, tmp_path / "project")
    (tmp_path / "project" / "requirements.txt").write_text("cpr-kit[metrics]\njoblib\n")
    return tmp_path / "project"


def source(project, **image):
    model = ModelSection(predictor="predictor:Doubler")
    return Source.read(Config(folder=project, image=ImageSection(**image), model=model))


def inputs(project, python="3.11"):
    return context.locked(source(project), python)


def made(project, python="3.11"):
    lock.make(inputs(project, python), project / "requirements.lock")
    return (project / "requirements.lock").read_text()


def test_every_distribution_has_a_version_and_hashes(project):
    text = made(project)
    names = re.findall(r"^([a-z0-9-]+)==\S+ \\$", text, re.MULTILINE)
    assert {"joblib", "numpy", "uvicorn", "fastapi", "prometheus-client"} <= set(names)
    assert "cpr-kit" not in names
    assert text.count("--hash=sha256:") >= len(names)
    assert lock.made_for(text) == ("3.11", "linux/amd64")
    assert "://" not in text


def test_the_same_inputs_give_the_same_lock(project):
    assert made(project) == made(project)


def test_the_image_context_takes_a_current_lock_and_refuses_an_old_one(project, tmp_path):
    text = made(project)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    context.make(source(project), tmp_path / "one")
    assert (tmp_path / "one" / "requirements" / "requirements.lock").read_text() == text
    assert not (tmp_path / "one" / "code" / "requirements.lock").exists()
    assert "LABEL cpr-kit.lock=" in (tmp_path / "one" / "Dockerfile").read_text()

    (project / "requirements.txt").write_text("joblib<1.5\n")
    with pytest.raises(SourceError, match=r"requirements.lock: is older than what it locks.* run: cpr lock"):
        context.make(source(project), tmp_path / "two")


def test_what_an_extra_package_needs_is_locked_and_watched(project):
    package = project / "mine"
    package.mkdir()
    pyproject = '[project]\nname = "mine"\nversion = "1"\ndependencies = ["{}"]\n'
    (package / "pyproject.toml").write_text(pyproject.format("tabulate"))
    config = Config(folder=project, model=ModelSection(predictor="predictor:Doubler", extra_packages=("mine",)))
    locked = context.locked(Source.read(config), "3.11")
    lock.make(locked, project / "requirements.lock")
    assert "\ntabulate==" in (project / "requirements.lock").read_text()

    (package / "pyproject.toml").write_text(pyproject.format("idna"))
    with pytest.raises(SourceError, match="an extra package"):
        lock.check(project / "requirements.lock", context.locked(Source.read(config), "3.11"))


def test_what_cannot_be_resolved_is_said_in_uvs_words_and_nothing_is_written(project):
    (project / "requirements.txt").write_text("joblib==99\n")
    with pytest.raises(LackingError, match="joblib==99"):
        made(project)
    assert not (project / "requirements.lock").exists()


@pytest.mark.parametrize(
    ("base", "asked", "python"),
    [
        ("python:3.12-slim", None, "3.12"),
        ("docker.io/library/python:3.10", None, "3.10"),
        ("python:3.12", "3.13", "3.13"),
        ("us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-3:latest", "3.10", "3.10"),
    ],
)
def test_the_python_is_that_of_the_base(tmp_path, base, asked, python):
    config = Config(folder=tmp_path, image=ImageSection(base=base))
    assert lock.python_of(config, tmp_path / "none", asked) == python


def test_a_python_that_nothing_tells_is_asked_for(tmp_path):
    config = Config(folder=tmp_path, image=ImageSection(base="nvidia/cuda:12.4"))
    with pytest.raises(ConfigError, match="cpr lock --python"):
        lock.python_of(config, tmp_path / "none")
    (tmp_path / "old").write_text("# for: Python 3.12, linux/amd64\n")
    assert lock.python_of(config, tmp_path / "old") == "3.12"


def test_another_platform_has_its_own_files(project):
    arm = context.locked(source(project, platform="linux/arm64"), "3.11")
    lock.make(arm, project / "requirements.lock")
    with pytest.raises(SourceError, match=r"is for linux/arm64, not linux/amd64"):
        lock.check(project / "requirements.lock", inputs(project))
    with pytest.raises(ConfigError, match="windows/amd64"):
        lock.make(context.locked(source(project, platform="windows/amd64"), "3.11"), project / "x.lock")


def test_what_changes_no_requirement_leaves_a_lock_current(project):
    made(project)
    (project / "requirements.txt").write_text("# why\ncpr-kit[metrics]   # metrics\n\njoblib\n")
    lock.check(project / "requirements.lock", inputs(project))


def test_where_distributions_come_from_goes_beside_the_lock(project, tmp_path):
    (project / "requirements.txt").write_text("--extra-index-url https://packages.example/simple  # ours\njoblib\n")
    config = Config(folder=project, model=ModelSection(predictor="predictor:Doubler"))
    locked = context.locked(Source.read(config), "3.11")
    path = project / "requirements.lock"
    path.write_text(f"# for: Python 3.11, linux/amd64\n# from: {locked.digest}\njoblib==1 --hash=sha256:00\n")
    (tmp_path / "one").mkdir()
    context.make(Source.read(config), tmp_path / "one")
    options = tmp_path / "one" / "requirements" / "options.txt"
    assert options.read_text() == "--extra-index-url https://packages.example/simple\n"


def test_a_lock_of_another_tool_is_left_alone(project, tmp_path):
    path = project / "requirements.lock"
    path.write_text("# generated by another tool\njoblib==1.4.0\n")
    (tmp_path / "one").mkdir()
    context.make(source(project), tmp_path / "one")
    assert not (tmp_path / "one" / "requirements" / "requirements.lock").exists()
    with pytest.raises(SourceError, match="was not made by `cpr lock`"):
        made(project)
    assert path.read_text().startswith("# generated by another tool")


@pytest.mark.parametrize("name", ["setup.cfg", "setup.py", "pyproject.toml"])
def test_each_file_that_may_name_needs_is_watched(project, name):
    package = project / "mine"
    package.mkdir()
    (package / "setup.py").write_text("from setuptools import setup; setup()")
    (package / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "1"\n')
    config = Config(folder=project, model=ModelSection(predictor="predictor:Doubler", extra_packages=("mine",)))
    before = context.locked(Source.read(config), "3.11").digest
    (package / name).write_text("# other")
    assert context.locked(Source.read(config), "3.11").digest != before
