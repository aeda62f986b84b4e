"""Calls are read from scripts and notebooks as they are, with all that notebooks have besides Python."""

import ast

import pytest
from upstream_projects import notebook, write
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.migrate import calls, literals
from cpr_kit.migrate.calls import Named
from cpr_kit.migrate.literals import Unknown


def read(tmp_path, name, text):
    return calls.read(write(tmp_path, {name: text}) / name)


def test_a_script_says_what_it_builds(tmp_path):
    (call,) = read(
        tmp_path,
        "build.py",
        """
        import os
        from google.cloud.aiplatform.prediction import LocalModel
        from src.predictor import CprPredictor as Mine

        REGION, FOLDER = "us-central1", "src"
        REPOSITORY = "serving"
        IMAGE = f"{REPOSITORY}-docker.pkg.dev/" + "my-project/iris"
        model = LocalModel.build_cpr_model(
            "src", IMAGE, predictor=Mine, requirements_path=os.path.join("src", "requirements.txt"),
            extra_packages=["dist/a.whl", "dist/b.whl"], platform="linux/amd64",
        )
        """,
    )

    assert call.where == "build.py:9"
    assert call.text("src_dir") == "src"
    assert call.text("output_image_uri") == "serving-docker.pkg.dev/my-project/iris"
    assert call.text("requirements_path") == "src/requirements.txt"
    assert call.arguments["extra_packages"] == ("dist/a.whl", "dist/b.whl")
    assert call.classes == {"predictor": Named("CprPredictor", "src.predictor")}


def test_a_notebook_is_read_past_its_own_commands(tmp_path):
    text = notebook(
        """
        ! pip3 install --user \\
          google-cloud-aiplatform
        PROJECT = !gcloud config get-value project
        REGION = "europe-west4"  # @param {type: "string"}
        if not PROJECT:
            %env PROJECT=x
        PROJECT_ID = "my-project"
        """,
        "%%writefile src/predictor.py\nLocalModel.build_cpr_model('wrong', 'wrong')",
        "this is no Python {",
        """
        %%time
        %cd src
        local_model = LocalModel.create_cpr_model(
            USER_SRC_DIR,
            f"{REGION}-docker.pkg.dev/{PROJECT_ID}/repo/image",
            predictor=predictor.CprPredictor,
            handler=None,
        )
        """,
        "with local_model.deploy_to_local_endpoint(artifact_uri='model') as e:\n    e.predict(request_file='i.json')",
    )

    build, deploy, predict = read(tmp_path, "nb.ipynb", text)

    assert build.where == "nb.ipynb, cell 5, line 3"
    assert build.text("src_dir") is None
    assert build.arguments["src_dir"] == Unknown("USER_SRC_DIR")
    assert build.text("output_image_uri") == "europe-west4-docker.pkg.dev/my-project/repo/image"
    assert build.classes == {"predictor": Named("CprPredictor", "predictor")}
    assert (deploy.text("artifact_uri"), predict.text("request_file")) == ("model", "i.json")


@pytest.mark.parametrize("text", ["", "{}", '{"cells": 3}', '{"cells": [3, {}]}', "not JSON: build_cpr_model"])
def test_what_is_no_notebook_holds_no_call(tmp_path, text):
    assert read(tmp_path, "nb.ipynb", text + " cpr_model") == []
    assert read(tmp_path, "nb.ipynb", text) == []


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'a' + 'b'", "ab"),
        ("Path('a') / 'b' / name", "a/b/n"),
        ("str(Path('a'))", "a"),
        ("f'{name}:{1}'", "n:1"),
        ("['a', name]", ("a", "n")),
        ("None", None),
        ("other", Unknown("other")),
        ("f'{other}-x'", Unknown("f'{other}-x'")),
        ("os.environ['X']", Unknown("os.environ['X']")),
        ("f('a')", Unknown("f('a')")),
        ("1 + name", "1n"),
        ("Path()", Unknown("Path()")),
    ],
)
def test_an_expression_is_worth_what_stands_there(expression, value):
    assert literals.value(ast.parse(expression, mode="eval").body, {"name": "n"}) == value


@given(st.text(), st.text())
def test_any_text_is_read_as_it_was_written(one, other):
    node = ast.parse(f"{one!r} + f'{{x}}'", mode="eval").body
    assert literals.value(node, {"x": other}) == one + other


@given(st.text())
def test_no_cell_is_too_strange(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("n") / "nb.ipynb"
    path.write_text(notebook(text, "LocalModel.build_cpr_model('src', 'i')"))
    assert [call.text("src_dir") for call in calls.read(path)][-1:] == ["src"]


def test_names_bound_in_other_ways_are_known_too(tmp_path):
    text = "SRC, IMAGE = 'src', 'i'\nBASE: str = 'python:3.12'\nbuild_cpr_model(SRC, IMAGE, base_image=BASE)\n"
    (call,) = read(tmp_path, "b.py", text)
    assert [call.text(name) for name in ("src_dir", "output_image_uri", "base_image")] == ["src", "i", "python:3.12"]
