"""A folder in upstream's spelling, and what is read out of it."""

import sys

import pytest
from upstream_projects import HANDLER, PREDICTOR, ROWS, notebook

from cpr_kit.errors import SourceError, UsageError
from cpr_kit.migrate import project
from cpr_kit.migrate.project import Wanted

BUILD = """
    from google.cloud.aiplatform.prediction import LocalModel
    from {module} import {name}

    LocalModel.build_cpr_model("{src}", "{image}", predictor={name}{more})
"""
IMAGE = "us-central1-docker.pkg.dev/my-project/serving/iris"


def build(src=".", module="predictor", name="CprPredictor", image=IMAGE, more=""):
    return BUILD.format(src=src, module=module, name=name, image=image, more=more)


def read(folder, **wanted):
    return project.read(folder, Wanted(**wanted))


def test_a_notebook_beside_its_source_folder_says_everything(folder):
    text = notebook(
        "SRC = 'src'",
        "LocalModel.build_cpr_model(SRC, 'eu.gcr.io/p/i:1', predictor=CprPredictor, base_image='python:3.11-slim',\n"
        "    requirements_path=os.path.join(SRC, 'requirements.txt'))",
    )
    place = folder(
        {
            "nb.ipynb": text,
            "src/predictor.py": PREDICTOR,
            "src/requirements.txt": "scikit-learn\n",
            "src/Dockerfile": "FROM x",
            "model/model.joblib": "",
            "instances.json": ROWS,
            "instances.csv": "1,2\n",
            "requests/other.txt": "",
        }
    )

    found = read(place)

    assert found.config.folder == place / "src"
    assert found.config.model.predictor == "predictor:CprPredictor"
    assert found.config.model.requirements == "requirements.txt"
    assert found.config.model.artifacts == "../model"
    assert (found.config.image.name, found.config.image.base) == ("eu.gcr.io/p/i:1", "python:3.11-slim")
    assert [check.request for check in found.config.checks] == ["../instances.csv", "../instances.json"]
    assert found.config.checks[0].content_type == "text/csv"
    assert found.reasons["base"] == "nb.ipynb, cell 3, line 1"
    assert found.reasons["predictor"] == "predictor.py:4, derives from SklearnPredictor"
    assert any("cpr.toml belongs there" in note for note in found.notes)
    assert not found.config.model.trusted
    assert "predictor" not in sys.modules


@pytest.mark.parametrize(
    "source",
    [
        "from google.cloud.aiplatform.prediction.predictor import Predictor\nclass Mine(Predictor): ...",
        "from google.cloud.aiplatform import prediction\nclass Mine(prediction.predictor.Predictor): ...",
        "from google.cloud import aiplatform\nclass Mine(aiplatform.prediction.predictor.Predictor): ...",
        "import google.cloud.aiplatform.prediction.predictor as p\nclass Mine(p.Predictor): ...",
        "from google.cloud.aiplatform.prediction import predictor as cpr\nclass Mine(cpr.Predictor): ...",
        "from base import Base\nclass Mine(Base): ...",
        "from deeper.base import Base\nclass Mine(Base): ...",
    ],
)
def test_a_predictor_is_known_by_what_it_derives_from(folder, source):
    base = "from google.cloud.aiplatform.prediction.xgboost.predictor import XgboostPredictor as X\nclass Base(X): ..."
    where = "deeper/base.py" if "deeper" in source else "base.py"
    place = folder({where: base if "Base" in source else "", "deeper/__init__.py": "", "mine.py": source})

    assert read(place).config.model.predictor == "mine:Mine"


def test_without_a_call_the_kit_chooses_the_base(folder):
    found = read(folder({"predictor.py": PREDICTOR, "handler.py": HANDLER, "requirements.txt": ""}))

    assert found.config.model.handler == "handler:CprHandler"
    assert "base" not in found.reasons
    assert found.config.image.base == "python:3.11-slim"


def test_a_call_without_a_handler_means_upstreams_own(folder):
    found = read(folder({"predictor.py": PREDICTOR, "handler.py": HANDLER, "build.py": build()}))

    assert found.config.model.handler is None
    assert found.config.image.base == "python:3.10"
    assert found.reasons["base"] == "the default of build_cpr_model"


def test_several_candidates_are_listed_with_the_flag_that_chooses(folder):
    two = PREDICTOR + "\n    class Other(SklearnPredictor):\n        pass\n"
    place = folder({"predictor.py": two, "tests/predictor.py": PREDICTOR, "test_predictor.py": PREDICTOR})

    with pytest.raises(UsageError) as caught:
        read(place)
    for part in ("predictor:CprPredictor (predictor.py:4)", "predictor:Other (predictor.py:8)", "--predictor"):
        assert part in str(caught.value)
    assert "tests" not in str(caught.value)
    for flag in ("Other", "predictor:Other"):
        assert read(place, predictor=flag).config.model.predictor == "predictor:Other"


def test_a_call_decides_among_several(folder):
    two = PREDICTOR + "\n    class Other(SklearnPredictor):\n        pass\n"
    found = read(folder({"predictor.py": two, "build.py": build(name="Other")}))
    assert found.config.model.predictor == "predictor:Other"


def test_of_several_builds_of_a_folder_the_last_counts(folder):
    later = build() + "\n    LocalModel.build_cpr_model('.', 'i', predictor=CprPredictor, handler=CprHandler)\n"
    found = read(folder({"predictor.py": PREDICTOR, "handler.py": HANDLER, "build.py": later}))

    assert (found.config.model.handler, found.config.image.name) == ("handler:CprHandler", "i")
    assert any("the last build counts" in note for note in found.notes)


def test_builds_of_several_folders_are_not_one_project(folder):
    files = {"nb.py": build("one") + build("two"), "one/predictor.py": PREDICTOR, "two/predictor.py": PREDICTOR}
    place = folder(files)

    with pytest.raises(UsageError, match="several projects"):
        read(place)
    assert read(place / "two").config.image.name == IMAGE


def test_a_source_folder_that_no_call_names_is_found(folder):
    found = read(folder({"src/predictor.py": PREDICTOR, "README.md": ""}))
    assert found.config.folder.name == "src"


def test_a_flag_may_name_a_class_that_derives_from_nothing(folder):
    place = folder({"duck.py": "class Duck:\n    def load(self, a): ...\n    def predict(self, i): ...\n"})

    with pytest.raises(SourceError, match="no class here derives from Predictor or Handler"):
        read(place)
    assert read(place, predictor="duck:Duck").config.model.predictor == "duck:Duck"
    with pytest.raises(SourceError, match='did you mean "Duck"'):
        read(place, predictor="duck:Dukc")
    with pytest.raises(UsageError, match='"module:Class"'):
        read(place, predictor="Dukc")


def test_a_dockerfile_of_ones_own_is_used_as_it_is(folder):
    place = folder(
        {"Dockerfile": "FROM x", "src/predictor.py": PREDICTOR, "src/entrypoint.py": "ModelServer(h).start()"}
    )

    assert (read(place).config.image.dockerfile, read(place).config.folder) == ("Dockerfile", place)
    chosen = read(place / "src", predictor="CprPredictor").config
    assert (chosen.image.dockerfile, chosen.model.predictor) == (None, "predictor:CprPredictor")


@pytest.mark.parametrize(
    ("base", "expected"),
    [("python:3.7", "python:3.10"), ("python:3.9-slim", "python:3.10"), ("python:3.12", "python:3.12")],
)
def test_a_python_that_is_too_old_is_replaced_and_said(folder, base, expected):
    found = read(folder({"predictor.py": PREDICTOR, "b.py": build(more=f", base_image='{base}'")}))

    assert found.config.image.base == expected
    assert any("older than the kit's" in note for note in found.notes) == (base != expected)


def test_an_image_name_that_is_computed_is_left_out(folder):
    for image in ("{REGION}-docker", "[your-registry]/x"):
        found = read(folder({"predictor.py": PREDICTOR, "b.py": build(image=image)}))
        assert found.config.image.name is None
        assert any("is no plain text" in note for note in found.notes)


def test_what_a_call_names_and_is_not_there_is_said(folder):
    more = ", requirements_path='needs.txt', extra_packages=['a.whl', 'gone.whl']"
    found = read(folder({"predictor.py": PREDICTOR, "a.whl": "", "b.py": build(more=more)}))

    assert found.config.model.extra_packages == ("a.whl",)
    assert any("needs.txt, which b.py:5 names" in note for note in found.notes)
    assert any("some are not there" in note for note in found.notes)


def test_artifacts_are_those_a_call_names_before_those_that_lie_about(folder):
    call = build() + "\n    m.deploy_to_local_endpoint(artifact_uri='old')\n"
    files = {"predictor.py": PREDICTOR, "old/model.pkl": "", "new/model.bst": ""}

    assert read(folder({**files, "b.py": call})).config.model.artifacts == "old"


def test_several_folders_of_models_are_named_and_none_chosen(folder, tmp_path):
    place = folder({"predictor.py": PREDICTOR, "old/model.pkl": "", "new/model.bst": ""})
    found = read(place)

    assert found.config.model.artifacts is None
    assert any("--artifacts" in note for note in found.notes)
    assert read(place, artifacts=str(place / "new")).config.model.artifacts == "new"
    assert read(place, artifacts="gs://b/m").config.model.artifacts == "gs://b/m"
    with pytest.raises(UsageError, match="no folder here"):
        read(place, artifacts=str(tmp_path / "none"))


def test_a_bucket_is_named_where_there_is_no_folder(folder):
    call = (
        build()
        + "\n    m.deploy_to_local_endpoint(artifact_uri=f'gs://b/{x}')\n    m.upload(artifact_uri='gs://b/m')\n"
    )
    assert read(folder({"predictor.py": PREDICTOR, "b.py": call})).config.model.artifacts == "gs://b/m"


@pytest.mark.parametrize(
    ("source", "files", "trusted"),
    [
        (PREDICTOR, {"model/model.joblib": ""}, False),
        ("from cpr_kit import SklearnPredictor\nclass P(SklearnPredictor): ...", {"model/model.joblib": ""}, True),
        ("from cpr_kit import SklearnPredictor\nclass P(SklearnPredictor): ...", {"model/model.skops": ""}, False),
        ("from cpr_kit import OnnxPredictor\nclass P(OnnxPredictor): ...", {"model/model.onnx": ""}, False),
    ],
)
def test_pickles_are_trusted_only_where_they_would_be_refused(folder, source, files, trusted):
    found = read(folder({"predictor.py": source, **files}))

    assert found.config.model.trusted == trusted
    assert ("pickle" in found.reasons.get("trusted", "")) == trusted


def test_code_that_asks_the_bucket_itself_is_pointed_at(folder):
    source = PREDICTOR.replace("\n    class", "\n    from google.cloud import storage\n    class")
    assert any("google-cloud-storage" in note for note in read(folder({"predictor.py": source})).notes)


def test_a_file_that_is_no_python_is_said_and_passed_over(folder):
    found = read(folder({"predictor.py": PREDICTOR, "scratch.py": "%matplotlib inline\n"}))

    assert found.config.model.predictor == "predictor:CprPredictor"
    assert any(note.startswith("not read:") and "scratch.py:1" in note for note in found.notes)


def test_what_the_build_would_refuse_is_said(folder):
    found = read(folder({"predictor.py": PREDICTOR, "requirements.txt": "-e .\n"}))
    assert any(note.startswith("cpr build refuses") for note in found.notes)


def test_requests_are_bodies_that_a_server_takes(folder):
    bad = {"instances_bad.json": "{", "instances_none.json": "[1]", "request.csv": "", "instances.txt": "x"}
    good = {"instances.json": ROWS, "instances.expected.json": "{}", "requests/a.jsonl": "{}\n"}
    checks = read(folder({"predictor.py": PREDICTOR, **bad, **good})).config.checks

    assert {check.request: check.expect for check in checks} == {
        "instances.json": "instances.expected.json",
        "requests/a.jsonl": None,
    }


def test_scripts_of_another_project_beside_it_have_no_say(folder):
    place = folder({"predictor.py": PREDICTOR, "b.py": build()})
    (place.parent / "other.py").write_text("build_cpr_model('elsewhere', 'j')\nm.upload(artifact_uri='gs://other/m')\n")

    assert read(place).config.model.artifacts is None
    assert read(place).config.image.name == IMAGE


def test_a_source_folder_that_a_notebook_computes_is_found_by_its_classes(folder):
    text = notebook("LocalModel.build_cpr_model(get(), 'i', predictor=CprPredictor, base_image='python:3.12')")
    found = read(folder({"src/predictor.py": PREDICTOR, "nb.ipynb": text}))
    assert (found.config.folder.name, found.config.image.base) == ("src", "python:3.12")
