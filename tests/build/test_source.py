import shutil
import sys
from pathlib import Path

import pytest

from cpr_kit.build.source import Source
from cpr_kit.contract import Reference
from cpr_kit.config import Config, ModelSection
from cpr_kit.errors import SourceError

FOLDERS = Path(__file__).parent / "folders"

REFUSED = {
    "misspelled_class": ("predictor.py:4", 'no class "Dubbler"', "Doubler (line 4)", 'did you mean "Doubler"?'),
    "misspelled_module": ("misspelled_module", 'no module "predicter"', 'did you mean "predictor"?'),
    "without_predict": ("predictor.py:4", "class Doubler has no method predict"),
    "without_load": ("predictor.py:4", "class Doubler has no method load"),
    "without_predict_in_sibling_base": ("predictor.py:4", "class Doubler has no method predict"),
    "undefined_base": ("predictor.py:4", "derives from SklearnPredicter, which is not defined"),
    "handler_without_handle": ("handler.py:4", "class Csv has no method handle"),
    "preprocessor_without_transform": ("preprocess.py:4", "class Scaler has no method transform"),
    "requirements_missing": ("needs.txt", "requirements file does not exist", "cpr.toml"),
    "extra_package_missing": ("words-1.0-py3-none-any.whl", "extra package file does not exist"),
    "artifacts_missing": ("model", "artifacts folder does not exist"),
    "nothing_to_serve": ("cpr.toml", "neither a predictor nor a handler"),
    "path_for_a_class": ("cpr.toml", '"src/predictor:Doubler"', '"module:Class"'),
    "left_out_by_dockerignore": ("predictor.py:4", "class Doubler", ".dockerignore leaves out"),
    "class_not_in_sibling": ("predictor.py:3", 'no class "Doubler"', "models.py", 'did you mean "Dubler"?'),
    "editable_requirement": ("requirements.txt:2", "editable install", "extra_packages"),
    "included_requirements_missing": ("requirements.txt:3", "more.txt does not exist"),
    "dockerfile_missing": ("Dockerfile", "dockerfile file does not exist"),
}


def read(folder, **model):
    return Source.read(Config(folder=folder, model=ModelSection(**model)))


def written(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.mark.parametrize("fault", REFUSED)
def test_refuses_and_names_the_place(fault):
    with pytest.raises(SourceError) as caught:
        Source.read(Config.read(FOLDERS / fault, environ={}))
    for part in REFUSED[fault]:
        assert part in str(caught.value)
    assert str(FOLDERS / fault) in str(caught.value)


def test_every_folder_is_used():
    assert {path.name for path in FOLDERS.iterdir()} - set(REFUSED) == {
        "good",
        "imports_unmet",
        "in_a_package",
        "own_dockerfile",
    }


def test_reads_a_sound_folder_without_importing_it():
    source = Source.read(Config.read(FOLDERS / "good", environ={}))
    assert source.predictor == Reference("predictor", "Doubler")
    assert source.handler is None
    assert source.requirements == FOLDERS / "good" / "requirements.txt"
    assert source.warnings == ()
    assert "predictor" not in sys.modules


def test_follows_packages_relative_imports_and_new_names():
    source = Source.read(Config.read(FOLDERS / "in_a_package", environ={}))
    assert source.predictor == Reference("serving.predictors", "Doubler")
    assert source.handler == Reference("serving", "Csv")
    assert source.warnings == ()


def test_warns_of_imports_that_nothing_brings():
    warnings = Source.read(Config.read(FOLDERS / "imports_unmet", environ={})).warnings
    told = [warning.split(",")[0].rpartition("/")[2] for warning in warnings]
    assert told == [
        "predictor.py:19 needs sklearn",
        "predictor.py:4 needs cv2",
        "predictor.py:5 needs google.cloud.storage",
    ]
    assert "add scikit-learn to the requirements" in warnings[0]
    assert "add google-cloud-storage" in warnings[2]


@pytest.mark.parametrize(
    "line", ["cpr-kit[sklearn]", "scikit_learn>=1", "cpr_kit[all]>=0.1", "scikit-learn @ https://e.org/a.whl"]
)
def test_a_framework_is_met_by_its_distribution_or_by_the_kits_extra(tmp_path, line):
    written(tmp_path, p="from cpr_kit import SklearnPredictor\nimport joblib\nclass P(SklearnPredictor): pass\n")
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    assert read(tmp_path, predictor="p:P").warnings == ()


def test_a_users_own_dockerfile_needs_no_predictor():
    source = Source.read(Config.read(FOLDERS / "own_dockerfile", environ={}))
    assert source.dockerfile == FOLDERS / "own_dockerfile" / "docker" / "serving.Dockerfile"
    assert source.predictor is None


def test_the_kits_own_classes_may_be_named_directly(tmp_path):
    assert read(tmp_path, predictor="cpr_kit:SklearnPredictor").predictor == Reference("cpr_kit", "SklearnPredictor")
    with pytest.raises(SourceError, match="cpr_kit:Predictor: class Predictor has no methods load and predict"):
        read(tmp_path, predictor="cpr_kit:Predictor")


def test_names_the_line_of_a_syntax_error(tmp_path):
    written(tmp_path, p="class P:\n    def load(self:\n        pass\n")
    with pytest.raises(SourceError, match=r"p\.py:2: .*def load\(self:"):
        read(tmp_path, predictor="p:P")


def test_refuses_an_empty_artifacts_folder_and_leaves_remote_ones_alone(tmp_path):
    shutil.copy(FOLDERS / "good" / "predictor.py", tmp_path)
    (tmp_path / "model").mkdir()
    with pytest.raises(SourceError, match="artifacts folder is empty"):
        read(tmp_path, predictor="predictor:Doubler", artifacts="model")
    assert read(tmp_path, predictor="predictor:Doubler", artifacts="gs://bucket/model").predictor


@pytest.mark.parametrize(
    "text",
    [
        "import unknown\nclass P(unknown.Base): pass",
        "from unknown import *\nclass P(Base): pass",
        "import unknown.deep as u\nclass P(u.Base): pass",
        "def make(): return object\nclass P(make()): pass",
        "from unknown import Base as P",
        "from unknown import Base\nP = Base",
        "import google.cloud.aiplatform.prediction.sklearn.predictor as s\nclass P(s.SklearnPredictor): pass",
        "from google.cloud.aiplatform import prediction\nclass P(prediction.sklearn.predictor.SklearnPredictor): pass",
        "try:\n    from cpr_kit import SklearnPredictor as B\nexcept ImportError:\n    B = None\nclass P(B): pass",
        "class B:\n    def load(self): ...\n    predict = print\nclass P(B): pass",
        "if True:\n    class P:\n        load: object = None\n        async def predict(self): ...\n",
    ],
)
def test_trusts_what_it_cannot_see_and_follows_what_it_can(tmp_path, text):
    assert read(written(tmp_path, p=text), predictor="p:P").predictor == Reference("p", "P")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from cpr_kit import Predictor\nclass P(Predictor): pass", "no methods load and predict"),
        ("import cpr_kit\nclass P(cpr_kit.Predictor):\n    def load(self): ...", "no method predict"),
        (
            "from google.cloud.aiplatform.prediction import predictor\nclass P(predictor.Predictor):\n  predict = 1",
            "no method load",
        ),
        ("class P(object):\n    load: object\n    predict = 1", "no method load"),
        (
            "from abc import ABC, abstractmethod\nclass P(ABC):\n  predict = 1\n  @abstractmethod\n  def load(self): ...",
            "no method load",
        ),
        ("class P(P): pass", "derives from itself"),
        ("import other\nclass P(other.B): pass", "no method predict"),
        ("from . import other\nclass P(other.B): pass", "no method predict"),
        ("import numpy as np", "it has no class at all"),
        ("P = Q\nQ = P", "it has no class at all"),
    ],
)
def test_refuses_what_can_be_seen_to_be_wrong(tmp_path, text, message):
    written(tmp_path, p=text, other="class B:\n    def load(self): ...\n")
    with pytest.raises(SourceError, match=message):
        read(tmp_path, predictor="p:P")


def test_relative_imports_lead_up_the_packages(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    written(tmp_path / "a", other="class B:\n    def load(self): ...\n")
    written(tmp_path / "a" / "b", p="from ..other import B\nclass P(B): pass\n")
    with pytest.raises(SourceError, match=r"a/b/p\.py:2: class P has no method predict"):
        read(tmp_path, predictor="a.b.p:P")


def test_extra_packages_bring_their_modules(tmp_path):
    written(tmp_path, p="import words.deep\nclass P:\n  load = predict = None\n")
    words = tmp_path / "lib" / "words-project"
    (words / "src" / "words").mkdir(parents=True)
    with pytest.raises(SourceError, match="neither pyproject.toml nor setup.py"):
        read(tmp_path, predictor="p:P", extra_packages=("lib/words-project",))
    (words / "pyproject.toml").touch()
    assert read(tmp_path, predictor="p:P", extra_packages=("lib/words-project",)).warnings == ()
    assert "needs words.deep" in read(tmp_path, predictor="p:P").warnings[0]
