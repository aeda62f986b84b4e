"""What `cpr init` copies works as it is: it trains, and its own tests pass."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cpr_kit.build import reference, template
from cpr_kit.config import Config

SKELETONS = template.folder() / "projects"
KINDS = ("predictor", "sklearn", "xgboost")


@pytest.mark.parametrize(
    ("kind", "engine"),
    [("predictor", "process"), ("sklearn", "process"), ("xgboost", "process")]
    + [pytest.param("sklearn", "docker", marks=pytest.mark.engine)],
)
def test_a_skeleton_trains_and_passes_its_own_tests(trained, engine_named, tmp_path, kind, engine):
    folder = tmp_path / f"cpr-kit-e2e-{kind}"
    shutil.copytree(trained(SKELETONS / kind), folder)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-W", "error"],
            cwd=folder,
            env={**os.environ, "CPR_ENGINE": engine},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 passed" in done.stdout
    finally:
        engine_named(engine).remove_image(reference.default(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_a_skeleton_has_all_that_a_project_needs(kind):
    folder = SKELETONS / kind
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    assert files >= {"README.md", "cpr.toml", "predictor.py", "train.py", "requirements.txt", "test_predictor.py"}
    assert files >= {".dockerignore", ".gitignore", "requests/two_rows.json", "requests/two_rows.expected.json"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_in_a_skeletons_cpr_toml_is_known_its_comments_included(kind, tmp_path):
    lines = (SKELETONS / kind / "cpr.toml").read_text().splitlines()
    keys = [line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in lines]
    (tmp_path / "cpr.toml").write_text("\n".join(keys))

    config = Config.read(tmp_path, environ={})
    assert config.model.predictor == "predictor:IrisPredictor"
    assert config.deploy.regions == ("us-central1",)
    assert Path(config.checks[0].request).suffix == ".json"
