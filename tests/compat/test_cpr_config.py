import importlib.util
import sys

import pytest

from cpr_kit.compat.cpr_config import CprArguments, class_name
from cpr_kit.errors import SourceError, UsageError
from cpr_kit.runtime.handler import PredictionHandler


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "src" / "pkg").mkdir(parents=True)
    (tmp_path / "src" / "predictor.py").write_text("class P:\n    class Inner: ...\n")
    (tmp_path / "src" / "pkg" / "__init__.py").write_text("class Q: ...\n")
    (tmp_path / "src" / "pkg" / "deep.py").write_text("class R: ...\n")
    (tmp_path / "elsewhere.py").write_text("class E: ...\n")
    return tmp_path / "src"


@pytest.fixture
def load(monkeypatch):
    def run(file, name):
        spec = importlib.util.spec_from_file_location(f"loaded_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        spec.loader.exec_module(module)
        return getattr(module, name)

    return run


def config(folder, **arguments):
    return CprArguments(src_dir=folder, output_image_uri="image:1", **arguments).config()


@pytest.mark.parametrize(
    ("file", "name", "expected"),
    [
        ("predictor.py", "P", "predictor:P"),
        ("pkg/__init__.py", "Q", "pkg:Q"),
        ("pkg/deep.py", "R", "pkg.deep:R"),
    ],
)
def test_a_class_becomes_the_name_the_container_imports(folder, load, file, name, expected):
    assert config(folder, predictor=load(folder / file, name)).model.predictor == expected


def test_a_class_outside_the_folder_is_refused_naming_both(folder, load):
    with pytest.raises(SourceError, match=r'elsewhere\.py: the file implementing "E" must be in ".*src"'):
        config(folder, predictor=load(folder.parent / "elsewhere.py", "E"))


def test_a_class_without_a_file_is_refused(folder):
    with pytest.raises(SourceError, match="Typed has no source file"):
        config(folder, predictor=type("Typed", (), {"__module__": "__nowhere__"}))


def test_a_nested_class_is_refused(folder, load):
    with pytest.raises(SourceError, match=r"P\.Inner is not at the top level"):
        config(folder, predictor=load(folder / "predictor.py", "P").Inner)


def test_a_class_of_the_kit_is_served_as_it_is(folder):
    from cpr_kit.runtime.predictor import Predictor

    assert class_name(Predictor, folder) == "cpr_kit.runtime.predictor:Predictor"


def test_names_are_taken_as_they_are(folder):
    read = config(folder, predictor="a:B", handler="c:D", preprocessor="e:F").model
    assert (read.predictor, read.handler, read.preprocessor) == ("a:B", "c:D", "e:F")


def test_the_stock_handler_of_the_kit_and_of_the_sdk_are_no_user_code(folder):
    upstream = pytest.importorskip("google.cloud.aiplatform.prediction.handler")
    for handler in (PredictionHandler, upstream.PredictionHandler):
        assert config(folder, predictor="a:B", handler=handler).model.handler is None


def test_no_handler_and_no_predictor_are_value_errors(folder):
    with pytest.raises(ValueError, match="handler is None"):
        config(folder, predictor="a:B", handler=None)
    with pytest.raises(ValueError, match="predictor is None"):
        config(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a folder"):
        config(tmp_path / "none", predictor="a:B")


def test_paths_are_the_callers_and_may_lie_outside_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    read = config("src", predictor="a:B", requirements_path="reqs.txt", extra_packages=["./a.whl"])
    assert read.folder == folder
    assert read.model.requirements == str(folder.parent / "reqs.txt")
    assert read.model.extra_packages == (str(folder.parent / "a.whl"),)


def test_arguments_win_over_cpr_toml_and_the_rest_of_it_stays(folder):
    (folder / "cpr.toml").write_text(
        '[model]\npredictor = "x:Y"\nartifacts = "m"\ntrusted = true\n'
        '[image]\nname = "other"\nbase = "b"\ndockerfile = "D"\nplatform = "linux/arm64"\nenv = {A = "1", B = "2"}\n'
    )
    read = config(folder, predictor="a:B", env={"B": "3"}, ports=[9000])
    assert (read.model.predictor, read.model.artifacts, read.model.trusted) == ("a:B", "m", True)
    assert (read.image.name, read.image.base, read.image.dockerfile) == ("image:1", "python:3.10", None)
    assert (read.image.platform, read.image.env, read.image.ports) == ("linux/arm64", {"A": "1", "B": "3"}, (9000,))
    assert config(folder).model.predictor == "x:Y"
