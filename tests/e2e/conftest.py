"""From a folder to an answer: projects are trained once a session, built once an engine, and shared."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cpr_kit.build import template
from cpr_kit.compat.local_model import LocalModel
from cpr_kit.config import Config
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import LABEL, Engine
from cpr_kit.engine.reaper import reaper
from cpr_kit.errors import LackingError

CONTAINERS = Path(__file__).parents[2] / "containers"
SKELETONS = template.folder() / "projects"
NOT_COPIED = shutil.ignore_patterns("model", "__pycache__", ".pytest_cache", ".ruff_cache")


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Callable[[Path], Path]:
    """trained(folder) -> a trained copy. It is shared: copy it again to change it."""

    @functools.cache
    def train(origin: Path) -> Path:
        folder = tmp_path_factory.mktemp("projects") / origin.name
        shutil.copytree(origin, folder, ignore=NOT_COPIED)
        subprocess.run([sys.executable, "-B", "train.py"], cwd=folder, check=True)
        return folder

    return train


@pytest.fixture(scope="session")
def variant(trained) -> Callable[[str], Path]:
    return lambda name: trained(CONTAINERS / name)


@pytest.fixture
def project(trained, tmp_path) -> Path:
    """A trained project without any framework, quick to build; yours to change."""
    folder = tmp_path / "cpr-e2e-project"
    shutil.copytree(trained(SKELETONS / "predictor"), folder)
    return folder


@pytest.fixture(scope="session")
def engine_named() -> Callable[[str], Engine]:
    return functools.cache(lambda name: choose(name).engine)


@pytest.fixture(scope="session")
def build(engine_named) -> Iterator[Callable[..., LocalModel]]:
    """build(folder, "docker") -> LocalModel, once a folder and engine; the images go with the session."""
    built: dict[tuple[Path, str], LocalModel] = {}

    def build(folder: Path, engine: str) -> LocalModel:
        key = (folder, engine)
        if key not in built:
            built[key] = LocalModel.build(folder, engine=engine_named(engine), tag=f"cpr-kit-e2e/{folder.name}:latest")
        return built[key]

    yield build
    for (_, engine), model in built.items():
        engine_named(engine).remove_image(model.spec.image_uri)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """The folder's modules can be imported; afterwards they are forgotten, for the next folder has the same names."""
    before, writes = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]
        importlib.invalidate_caches()


@pytest.fixture
def importable() -> Callable[[Path], contextlib.AbstractContextManager[None]]:
    return _importable


@pytest.fixture
def load_predictor(monkeypatch) -> Iterator[Callable[[Path], Any]]:
    """load_predictor(folder) -> the project's predictor in this process, its model loaded."""
    with contextlib.ExitStack() as stack:

        def load(folder: Path) -> Any:
            stack.enter_context(_importable(folder))
            model = Config.read(folder).model
            if model.preprocessor:
                module, _, name = model.preprocessor.partition(":")
                monkeypatch.setenv("PREPROCESSOR_MODULE", module)
                monkeypatch.setenv("PREPROCESSOR_CLASS", name)
            # A project with its own Dockerfile need not name its class.
            module, _, name = (model.predictor or "predictor:IrisPredictor").partition(":")
            predictor = getattr(importlib.import_module(module), name)()
            predictor.load(str(folder / "model"))
            return predictor

        yield load


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, tuple[Any, ...]]]:
    """snapshot(folder) -> each file and folder with its mode, its time of change and its content's digest."""

    def take(folder: Path) -> dict[str, tuple[Any, ...]]:
        found = {}
        for path in sorted(folder.rglob("*")):
            status = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, content)
        return found

    return take


@pytest.fixture
def nothing_is_left(tmp_path_factory, monkeypatch) -> Iterator[None]:
    """After the test there is no temporary folder, container, volume or network that was not there before."""
    folder = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = _of_docker()
    yield
    assert list(folder.iterdir()) == []
    assert _of_docker() - before == set()


def _of_docker() -> set[str]:
    """Containers of this program, and every volume and network; nothing where no engine answers."""
    if not _docker_answers():
        return set()
    import docker

    with contextlib.closing(docker.from_env()) as client:
        own = {"label": f"{LABEL}={reaper().session}"}
        containers = client.api.containers(all=True, filters=own)
        volumes = client.api.volumes()["Volumes"] or ()
        return {each["Id"] for each in (*containers, *client.api.networks())} | {each["Name"] for each in volumes}


@functools.cache
def _docker_answers() -> bool:
    try:
        choose("docker")
    except LackingError:
        return False
    return True
