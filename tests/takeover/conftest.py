"""Folders as a tutorial's reader has them, trained and built as the tutorial does it; nothing in them is the kit's."""

import contextlib
import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.engine.choose import choose

HERE = Path(__file__).parent
BASE = "python:3.11-slim"
TRAINED_BY = {"xgboost_online": "train.py", "timm_serving": "train.py"}


class Project:
    """A trained copy: `src` is what is built, `model` what is served."""

    def __init__(self, root):
        self.root = root
        self.src = next((path for path in root.iterdir() if path.name.startswith("src")), root)
        self.model = root / "model"

    def build(self, engine, *, handler=None, tag=None, **options):
        lines = []
        built = LocalModel.build_cpr_model(
            str(self.src),
            tag or f"cpr-kit-takeover/{self.root.name.replace('_', '-')}:1",
            predictor=f"predictor:{'TimmPredictor' if self.root.name == 'timm_serving' else 'CprPredictor'}",
            **({"handler": f"handler:{handler}"} if handler else {}),
            base_image=BASE,
            requirements_path=str(self.src / "requirements.txt"),
            engine=_Listening(engine, lines),
            **options,
        )
        built._engine = engine
        return built, lines


class _Listening:
    """An engine that also keeps what it was told to say."""

    def __init__(self, engine, lines):
        self._engine, self._lines = engine, lines

    def __getattr__(self, name):
        return getattr(self._engine, name)


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """project("custom_predict") -> Project."""

    @functools.cache
    def make(name):
        root = tmp_path_factory.mktemp("takeover") / name
        shutil.copytree(HERE / name, root, ignore=shutil.ignore_patterns("__pycache__"))
        made = Project(root)
        script = root / "train.py" if name in TRAINED_BY else HERE / "train_iris.py"
        folder = root if name in TRAINED_BY else made.src
        environ = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PATH": ""}
        subprocess.run([sys.executable, script], cwd=folder, env=environ, check=True)
        return made

    return make


@pytest.fixture(scope="session")
def engines():
    return functools.cache(lambda name: choose(name).engine)


@pytest.fixture(scope="session")
def built(project, engines):
    """built("custom_predict", "process") -> the model, once a session; its images go with the session."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def build(name, engine, handler=None):
            model, _ = project(name).build(engines(engine), handler=handler)
            stack.callback(engines(engine).remove_image, model.spec.image_uri)
            return model

        yield build
