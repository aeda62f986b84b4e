"""Each mistake of an author is refused, or ends the start, with one line that says what and where."""

import re

import pytest

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.errors import ContainerError, SourceError

TAG = "cpr-kit-e2e/faulty:latest"


@pytest.fixture
def attempt(engine, nothing_is_left, snapshot):
    """attempt(folder) -> the error of a build and a start; the folder is as before, and no image stays."""

    def run(folder):
        before = snapshot(folder)
        with pytest.raises((SourceError, ContainerError)) as caught:
            with LocalModel.build(folder, engine=engine, tag=TAG).deploy_to_local_endpoint():
                pass
        assert snapshot(folder) == before
        return caught.value

    yield run
    engine.remove_image(TAG)


def edit(folder, old, new, file="predictor.py"):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


def line_of(folder, text):
    lines = (folder / "predictor.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def last_line(error):
    """The end of the container's log, which is what a person reads."""
    return re.sub(r"^\S+ \S+ ERROR ", "", error.logs.splitlines()[-1])


def test_a_class_name_with_a_typo_is_refused_before_anything_is_built(project, attempt, engine):
    edit(project, ":IrisPredictor", ":IrisPredicter", "cpr.toml")

    error = attempt(project)

    assert isinstance(error, SourceError)
    where = f"{project}/predictor.py:{line_of(project, 'class IrisPredictor')}"
    assert str(error).startswith(f'{where}: there is no class "IrisPredicter"')
    assert 'did you mean "IrisPredictor"?' in str(error)
    assert "\n" not in str(error)
    assert engine.image(TAG) is None


def test_artifacts_that_are_missing_are_refused_before_anything_is_built(project, attempt, engine):
    (project / "model" / "means.npz").unlink()
    (project / "model").rmdir()

    error = attempt(project)

    assert isinstance(error, SourceError)
    assert str(error).startswith(f"{project}/model: the artifacts folder does not exist")
    assert "\n" not in str(error)
    assert engine.image(TAG) is None


def test_a_model_file_that_is_missing_ends_the_start(project, attempt):
    (project / "model" / "means.npz").rename(project / "model" / "moans.npz")

    said = last_line(attempt(project))

    assert said.startswith("cannot start: IrisPredictor could not be loaded: FileNotFoundError:")
    assert "means.npz" in said
    assert f"(predictor.py line {line_of(project, 'np.load')})" in said


def test_a_load_that_raises_ends_the_start(project, attempt):
    edit(project, "self.means = dict(file)", 'raise ValueError("the means are of another year")')

    error = attempt(project)

    assert "the container ended with exit code 1" in str(error)
    assert last_line(error).startswith(
        "cannot start: IrisPredictor could not be loaded: ValueError: the means are of another year "
        f"(predictor.py line {line_of(project, 'raise ValueError')}) | "
    )


def test_an_import_of_a_missing_module_ends_the_start(project, attempt):
    edit(project, "import numpy as np", "import numpy as np\nimport no_such_library")

    error = attempt(project)

    assert last_line(error) == (
        f'cannot start: predictor.py line {line_of(project, "no_such")} imports "no_such_library", '
        "which is not installed | add its distribution to requirements.txt and build again"
    )
