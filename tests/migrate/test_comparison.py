"""Both ways on a real engine, with the real SDK. A project without a framework: the SDK itself takes the time."""

import importlib.metadata
import sys

import pytest
from upstream_projects import write

from cpr_kit.build import index
from cpr_kit.config import Config
from cpr_kit.engine.choose import choose
from cpr_kit.errors import LackingError, UsageError
from cpr_kit.migrate import comparison, table, upstream
from cpr_kit.migrate.measure import Effort, Request
from cpr_kit.migrate.upstream import Order

DOUBLES = """
    from google.cloud.aiplatform.prediction.predictor import Predictor


    class Doubles(Predictor):
        def load(self, artifacts_uri):
            self.factor = 2

        def predict(self, instances):
            return {"predictions": [self.factor * each for each in instances["instances"]]}
"""


@pytest.fixture
def doubles(tmp_path):
    files = {
        "doubles.py": DOUBLES,
        "cpr.toml": '[model]\npredictor = "doubles:Doubles"\n[image]\nbase = "python:3.11-slim"\n',
        "rows.json": '{"instances": [1, 2]}',
    }
    return write(tmp_path / "doubles", files)


@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_both_ways_are_measured_and_nothing_stays(doubles):
    engine = choose("docker").engine
    before = _images()
    subject = comparison.Subject(
        config=Config.read(doubles, environ={}),
        request=Request.read(doubles / "rows.json"),
        effort=Effort.quick(),
        warm=False,
    )
    lines = []

    found = comparison.compare(subject, engine, lines.append)

    assert found.differs is None
    assert found.after.answer == b'{"predictions":[2,4]}'
    assert found.after.added_mb < found.before.added_mb
    assert found.after.reinstalls is False
    for figures in (found.before, found.after):
        assert figures.size_mb > figures.added_mb > 0
        assert figures.build_s > 0 < figures.rebuild_s
    # The SDK's workers end themselves where their imports take longer than 5 s, as they do on a busy machine.
    for figures in (found.after, *(() if found.before.fault else (found.before,))):
        assert figures.start_s > 0 < figures.memory_mb
        assert figures.rate > 0
    assert any("google-cloud-aiplatform" in line and "pip install" in line for line in lines)
    assert found.before.fault or "both answered the request alike" in table.lines(found)
    assert {name for name in _images() - before if "compare" in name} == set()


def _images():
    import contextlib

    import docker

    with contextlib.closing(docker.from_env()) as client:
        return {tag for image in client.images.list() for tag in image.tags}


def test_the_sdk_is_asked_for_by_name(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "google-cloud-aiplatform":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(LackingError, match=r'pip install "google-cloud-aiplatform\[prediction\]"'):
        upstream.version()


def test_a_dockerfile_of_ones_own_leaves_nothing_to_compare(doubles):
    (doubles / "Dockerfile").touch()
    (doubles / "cpr.toml").write_text('[image]\ndockerfile = "Dockerfile"\n')
    subject = comparison.Subject(config=Config.read(doubles, environ={}))
    with pytest.raises(UsageError, match="one and the same image both ways"):
        comparison.compare(subject, None, print)


@pytest.mark.engine
def test_what_the_sdk_refuses_is_told(doubles, tmp_path):
    (tmp_path / "outside.txt").touch()
    (tmp_path / "talk").mkdir()
    order = Order(
        src_dir=str(doubles),
        output_image_uri="cpr-local/compare-refused:latest",
        predictor="doubles:Doubles",
        base_image="python:3.11-slim",
        requirements_path=str(tmp_path / "outside.txt"),
    )
    with pytest.raises(UsageError, match="google-cloud-aiplatform refuses the project: The requirements_path"):
        upstream.build(order, tmp_path / "talk", print)


def test_the_users_code_is_named_and_not_imported(doubles, monkeypatch):
    from google.cloud.aiplatform.utils import prediction_utils

    (doubles / "doubles.py").write_text("raise SystemExit('imported')")
    cls = upstream._stand_in("doubles:Doubles", doubles)
    try:
        assert prediction_utils.inspect_source_from_class(cls, str(doubles)) == ("doubles", "Doubles")
    finally:
        del sys.modules[cls.__module__]


def test_settings_that_hold_in_a_container_are_seen(monkeypatch, tmp_path):
    from cpr_kit.migrate import sides

    monkeypatch.setattr(index, "settings", dict)
    monkeypatch.setattr(index, "certificates", lambda _: None)
    assert not sides.has_settings()
    monkeypatch.setattr(index, "settings", lambda: {"find-links": str(tmp_path)})  # a path of this machine only
    assert not sides.has_settings()
    monkeypatch.setattr(index, "settings", lambda: {"index-url": "https://index.example/simple"})
    assert sides.has_settings()
