"""`[image] bake`: the model becomes part of the image, in a layer below the code."""

import json

import pytest

from cpr_kit.build import context, image, state, template
from cpr_kit.build.dockerfile import parse
from cpr_kit.build.source import Source
from cpr_kit.build.stages import plan
from cpr_kit.compat.local_model import LocalModel
from cpr_kit.config import Config
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.errors import ConfigError, SourceError
from cpr_kit.runtime.settings import Settings

PREDICTOR = """
from pathlib import Path
from cpr_kit import Predictor


class Reads(Predictor):
    def load(self, artifacts_uri):
        self.word = (Path(artifacts_uri) / "word.txt").read_text()

    def predict(self, request):
        return {"predictions": [self.word for _ in request["instances"]]}
"""


@pytest.fixture
def project(tmp_path):
    """project(bake, more) -> the folder of a predictor with two models; .dockerignore leaves both out."""

    def made(bake, more=""):
        folder = tmp_path / "baked-project"
        for name in ("models/a", "models/b"):
            (folder / name).mkdir(parents=True)
            (folder / name / "word.txt").write_text(name)
        (folder / ".dockerignore").write_text("models/\n")
        (folder / "predictor.py").write_text(PREDICTOR)
        (folder / "cpr.toml").write_text(f'[model]\npredictor = "predictor:Reads"\n[image]\nbake = "{bake}"\n{more}')
        return folder

    return made


def read(folder):
    return Source.read(Config.read(folder, environ={}))


def test_the_context_has_that_model_and_no_other(project, tmp_path):
    made = tmp_path / "context"
    made.mkdir()
    context.make(read(project("models/a/")), made)
    assert (made / "code/models/a/word.txt").read_text() == "models/a"
    assert not (made / "code/models/b").exists()
    assert json.loads((made / "image.json").read_text())["env"]["CPR_IMAGE_BAKE"] == "models/a"


def test_the_model_belongs_to_what_the_label_says(project, tmp_path):
    folder = project("models/a")
    (tmp_path / "context").mkdir()
    context.make(read(folder), tmp_path / "context")
    before = state.read(Config.read(folder, environ={}))
    assert f'cpr-kit.source="{before.digest}"' in (tmp_path / "context/Dockerfile").read_text()
    assert "models/a/word.txt" in before.written
    (folder / "models/b/word.txt").write_text("trained anew")
    assert state.read(Config.read(folder, environ={})).digest == before.digest
    (folder / "models/a/word.txt").write_text("trained anew")
    assert state.read(Config.read(folder, environ={})).digest != before.digest


@pytest.mark.parametrize("name", ["python", "cuda", "prebuilt"])
def test_every_template_has_the_model_in_a_layer_below_the_code(project, name):
    text, _ = template.render(read(project("models/a", f'template = "{name}"\n')))
    recipe = plan(parse(text))
    copies = [step.instruction.text for step in recipe.final if step.instruction.keyword == "COPY"]
    assert copies[-2:] == ["/baked/ /", "/image/ /"]
    assert recipe.env["CPR_IMAGE_BAKE"].value == "models/a"


def test_it_is_served_where_the_platform_names_no_artifacts(project, tmp_path):
    engine = ProcessEngine()
    model = LocalModel.build(project("models/a"), engine=engine, tag="cpr-kit-tests/baked:1")
    try:
        with model.deploy_to_local_endpoint() as endpoint:
            assert endpoint.predict(instances=[1]).predictions == ["models/a"]
        with model.deploy_to_local_endpoint(artifact_uri=str(tmp_path / "baked-project/models/b")) as endpoint:
            assert endpoint.predict(instances=[1]).predictions == ["models/b"]
    finally:
        engine.remove_image("cpr-kit-tests/baked:1")


def test_the_variable_of_the_image_is_a_folder_of_the_server(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    baked = {"CPR_IMAGE_BAKE": "model"}
    assert Settings.from_environ(baked).serving.storage_uri == str(tmp_path / "model")
    assert Settings.from_environ({**baked, "AIP_STORAGE_URI": "gs://b/m"}).serving.storage_uri == "gs://b/m"


@pytest.mark.parametrize("bake", ["../model", "/model", "mo del", "model;id", "gs://b/model", "a//b", ".", ""])
def test_only_a_plain_folder_of_the_project_can_be_baked(project, bake):
    with pytest.raises(ConfigError, match='it is a folder of the project, as "model/"'):
        read(project(bake))


def test_a_model_that_is_not_there_is_missed_before_the_build(project):
    with pytest.raises(SourceError, match="the baked folder does not exist; train the model first"):
        read(project("models/c"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('dockerfile = "Dockerfile"\n', "COPY model/ /usr/app/model/"),
        ('template = "foreign"\nbase = "x/y:1"\n', "foreign"),
    ],
)
def test_an_image_that_the_kit_does_not_make_has_no_place_for_it(tmp_path, more, said):
    (tmp_path / "cpr.toml").write_text(f'[image]\nbake = "model/"\n{more}')
    with pytest.raises(ConfigError, match=said):
        read(tmp_path)


def test_the_specification_needs_no_artifacts(project):
    assert image.specification(Config.read(project("models/a"), environ={}), "x").env == {}
