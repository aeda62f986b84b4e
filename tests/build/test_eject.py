"""An ejected project: what is in it, what is not, and that it is never written over."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.build import context, eject, index, template
from cpr_kit.build.source import Source
from cpr_kit.config import CheckSection, Config, ImageSection, ModelSection, ServeSection
from cpr_kit.errors import UsageError

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

FOLDERS = Path(__file__).parent / "folders"
SECRET = "https://user:word@index.invalid/simple"


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(FOLDERS / "good", folder)
    (folder / "requirements.txt").write_text("")
    (folder / "requests").mkdir()
    (folder / "requests" / "one.json").write_text('{"instances": [1]}')
    (folder / "hidden.json").write_text("{}")
    (folder / ".dockerignore").write_text("hidden.json\n")
    (folder / "model").mkdir()
    (folder / "model" / "m").write_text("weights")
    return folder


def source(folder, **sections):
    given = {
        "model": ModelSection(predictor="predictor:Doubler", artifacts="model/"),
        "image": ImageSection(name="serving/it:2", env={"A": "1", "B": "$(AIP_HTTP_PORT)"}),
        "serve": ServeSection(workers=3),
        "checks": (CheckSection(request="requests/one.json", expect="hidden.json"),),
        **sections,
    }
    return Source.read(Config(folder=folder, **given))


def test_it_builds_without_the_kit_and_says_only_what_the_dockerfile_cannot(project, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", SECRET)
    out = tmp_path / "out"
    files = eject.eject(source(project), out)
    assert set(files) >= {"Dockerfile", "README.md", "cpr.toml", "code/entrypoint.py", "code/predictor.py"}
    assert "image.json" not in files
    assert not (out / "code" / "model").exists()
    lines = (out / "Dockerfile").read_text().splitlines()
    for line in (
        'ARG BASE_IMAGE="python:3.11-slim"',
        'ARG PREDICTOR_MODULE="predictor"',
        'ENTRYPOINT ["python", "entrypoint.py"]',
        'ENV VERTEX_CPR_WEB_CONCURRENCY="3"',
        'ENV A="1"',
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith("ENTRYPOINT") and "cpr_kit.runtime" in line]
    read = tomllib.loads((out / "cpr.toml").read_text())
    assert read == {
        "model": {"artifacts": "../project/model"},
        "image": {"name": "serving/it:2", "dockerfile": "Dockerfile", "platform": ImageSection.platform, "env": {"B": "$(AIP_HTTP_PORT)"}},
        "check": [{"request": "code/requests/one.json", "expect": "hidden.json", "content_type": "application/json"}],
    }  # fmt: skip
    assert (out / "hidden.json").read_text() == "{}"
    config = Config.read(out, environ={})
    assert Path(config.artifact_uri).resolve() == project / "model"
    assert Source.read(config).dockerfile == out / "Dockerfile"


def test_no_setting_of_this_machine_is_in_it(project, tmp_path, monkeypatch):
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("certificates of this machine")
    for name, value in {
        "PIP_INDEX_URL": SECRET,
        "https_proxy": "http://proxy.invalid",
        "SSL_CERT_FILE": str(bundle),
    }.items():
        monkeypatch.setenv(name, value)
    eject.eject(source(project), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for word in (b"index.invalid", b"proxy.invalid", b"certificates of this", str(project).encode()):
                assert word not in content, path


def test_the_kit_hands_this_machines_settings_to_its_build(project, tmp_path, monkeypatch):
    out, made, again = tmp_path / "out", tmp_path / "made", tmp_path / "again"
    eject.eject(source(project), out)
    monkeypatch.setenv("PIP_INDEX_URL", SECRET)
    made.mkdir()
    assert context.make(Source.read(Config.read(out, environ={})), made) == {}
    assert SECRET in (made / "index" / index.CONFIG).read_text()
    assert sorted(path.name for path in made.iterdir()) == [
        "Dockerfile",
        "code",
        "hidden.json",
        "index",
        "kit",
        "packages",
        "requirements",
        "template",
    ]

    (out / "index" / index.CONFIG).write_text("[global]\nindex-url = https://theirs.invalid\n")
    again.mkdir()
    context.make(Source.read(Config.read(out, environ={})), again)
    assert "theirs.invalid" in (again / "index" / index.CONFIG).read_text()


def test_what_was_not_edited_is_written_again(project, tmp_path):
    out = tmp_path / "out"
    eject.eject(source(project), out)
    (project / "requests" / "one.json").unlink()
    (project / "new.py").write_text("")
    (out / "notes.txt").write_text("mine")
    eject.eject(source(project, checks=()), out)
    assert (out / "code" / "new.py").exists()
    assert not (out / "code" / "requests" / "one.json").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert set(json.loads((out / context.EJECTED).read_text())["files"]) >= {"Dockerfile", "code/new.py"}


@pytest.mark.parametrize("name", ["Dockerfile", "code/predictor.py", "cpr.toml", "index/pip.conf"])
def test_an_edited_file_is_never_written_over(project, tmp_path, name):
    out = tmp_path / "out"
    eject.eject(source(project), out)
    (out / name).write_text("mine\n")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=f"are yours since: {name}; nothing was written"):
        eject.eject(source(project), out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_file_where_a_new_one_would_go_is_the_users(project, tmp_path):
    out = tmp_path / "out"
    eject.eject(source(project), out)
    (out / "code" / "new.py").write_text("mine")
    (project / "new.py").write_text("")
    with pytest.raises(UsageError, match=r"code/new\.py"):
        eject.eject(source(project), out)


def test_only_new_and_empty_folders_are_filled(project, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "a").touch()
    with pytest.raises(UsageError, match="is not empty"):
        eject.eject(source(project), full)
    with pytest.raises(UsageError, match="is a file"):
        eject.eject(source(project), full / "a")
    for folder in (project, project / "inside", tmp_path):
        with pytest.raises(UsageError, match="lie in each other"):
            eject.eject(source(project), folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert eject.eject(source(project), empty)


def test_a_dockerfile_of_ones_own_is_the_users_already(tmp_path):
    with pytest.raises(UsageError, match="has a Dockerfile of its own already"):
        eject.eject(Source.read(Config.read(FOLDERS / "own_dockerfile", environ={})), tmp_path / "out")


def test_an_entry_point_of_the_users_keeps_its_name(project, tmp_path):
    (project / "entrypoint.py").write_text("mine")
    eject.eject(source(project), tmp_path / "out")
    assert (tmp_path / "out" / "code" / "entrypoint.py").read_text() == "mine"
    assert 'ENTRYPOINT ["python", "cpr_entrypoint.py"]' in (tmp_path / "out" / "Dockerfile").read_text()


def test_a_foreign_image_is_ejected_as_its_dockerfile(project, tmp_path):
    image = ImageSection(template="foreign", base="other/server:1", args=("--port=$(AIP_HTTP_PORT)",), ports=(9000,))
    eject.eject(source(project, image=image, model=ModelSection(), serve=ServeSection()), tmp_path / "out")
    read = tomllib.loads((tmp_path / "out" / "cpr.toml").read_text())
    assert (read["image"]["args"], read["image"]["ports"]) == (["--port=$(AIP_HTTP_PORT)"], [9000])
    assert read["check"][0]["request"] == "requests/one.json"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"Dockerfile", "README.md", "cpr.toml", ".dockerignore", context.EJECTED, "requests", "hidden.json"}


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT, st.lists(TEXT), st.dictionaries(TEXT, TEXT))
def test_toml_reads_back_what_was_written(text, words, table):
    given = {"text": text, "words": words, "table": table, "number": 3}
    written = eject._block("[a]", given)
    read = tomllib.loads(written)["a"]
    assert read == {key: value for key, value in given.items() if value not in ([], {})}


def test_the_words_of_a_readme_are_all_filled_in(project, tmp_path):
    eject.eject(source(project), tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "serving/it:2" in readme
    assert '"$PWD/' in readme
    assert not [line for line in readme.splitlines() if "${" in line or "$p" in line or "$i" in line]


def test_the_texts_are_no_template():
    assert not (template.folder() / eject.TEXTS / "Dockerfile").exists()


def test_the_command_line_ejects(project, tmp_path):
    command = [sys.executable, "-m", "cpr_kit", "build", str(project), "--eject", str(tmp_path / "out"), "--base", "my/base:3", "-t", "mine:4", "--json"]  # fmt: skip
    (project / "cpr.toml").write_text('[model]\npredictor = "predictor:Doubler"\n')
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Dockerfile" in json.loads(done.stdout)["files"]
    assert 'ARG BASE_IMAGE="my/base:3"' in (tmp_path / "out" / "Dockerfile").read_text()
    assert 'name = "mine:4"' in (tmp_path / "out" / "cpr.toml").read_text()
    (tmp_path / "out" / "Dockerfile").write_text("FROM mine\n")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, "are yours since: Dockerfile" in again.stdout) == (2, True)
