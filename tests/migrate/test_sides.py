"""What happens around a build: the copy, the edited line, the images that go, the installers that are seen."""

from dataclasses import replace

import pytest
from upstream_projects import PREDICTOR

from cpr_kit.config import Config, ImageSection, ModelSection
from cpr_kit.contract import ContainerSpec
from cpr_kit.engine.protocol import Image
from cpr_kit.errors import BuildError, LackingError
from cpr_kit.migrate import sides

BUILDKIT = """
#4 [base 1/2] FROM python:3.11-slim
#4 CACHED
#5 [tools 2/2] RUN sh template/install.sh dependencies
#5 {tools}
#6 [image 3/3] COPY code/ ./
#6 DONE 0.1s
"""
PIP = BUILDKIT.replace("sh template/install.sh dependencies", "python -m pip install -r requirements.txt")
CLASSIC = """
Step 1/3 : FROM python:3.11-slim
 ---> 1234
Step 2/3 : COPY . .
 ---> 1235
Step 3/3 : RUN pip install -r requirements.txt
{tools}
"""


class Remembering:
    """Stands for an engine that has images: each build makes a new one under its name."""

    def __init__(self):
        self.there, self.count = {}, 0

    def put(self, tag):
        self.count += 1
        self.there[tag] = self.there[f"id-{self.count}"] = Image(reference=tag, id=f"id-{self.count}", size=10**6)

    def image(self, reference):
        return self.there.get(reference)

    def remove_image(self, reference):
        self.there.pop(reference, None)


class Made(sides.Side):
    lines = ()

    @property
    def spec(self):
        return ContainerSpec.kit(self.tag)

    def _make(self, output, *, no_cache):
        for line in self.lines:
            output(line)
        self.engine.put(self.tag)
        return 1.0


def config(folder, **model):
    return Config(folder=folder, model=ModelSection(predictor="predictor:CprPredictor", **model), image=ImageSection())


def opened(project, engine, kind=Made):
    return sides.opened(kind, project, engine, "base:1", lambda _: None)


@pytest.mark.parametrize(
    ("text", "tools", "installed"),
    [
        (BUILDKIT, "CACHED", False),
        (BUILDKIT, "DONE 3s", False),
        (BUILDKIT, "0.3 Installed 12 packages", True),
        (BUILDKIT, "0.3 Collecting numpy", True),
        (PIP, "CACHED", False),
        (PIP, "DONE 3s", True),
        (CLASSIC, " ---> Using cache", False),
        (CLASSIC, "Collecting numpy", True),
    ],
)
def test_an_installer_is_seen_by_the_steps_that_ran(text, tools, installed):
    watch = sides.Watch()
    for line in text.format(tools=tools).strip().splitlines():
        watch.feed(line)
    assert watch.installed == installed


def test_each_image_goes_when_the_next_is_there_and_the_last_at_the_end(folder):
    engine = Remembering()
    project = config(folder({"predictor.py": PREDICTOR}))

    with opened(project, engine) as side:
        assert side.build().installed is False
        side.lines = CLASSIC.format(tools="Collecting numpy").strip().splitlines()
        assert side.build().installed is True
        assert sorted(engine.there) == sorted([side.tag, "id-2"])
    assert engine.there == {}


def test_images_go_after_an_interruption_too(folder):
    engine = Remembering()
    with pytest.raises(KeyboardInterrupt), opened(config(folder({"predictor.py": PREDICTOR})), engine) as side:
        side.build()
        raise KeyboardInterrupt
    assert engine.there == {}
    assert not side.config.folder.exists()


def test_the_folder_of_the_user_is_copied_and_never_touched(folder):
    files = {"predictor.py": PREDICTOR, "model/model.joblib": "x", ".dockerignore": "model\n", "requirements.txt": ""}
    place = folder(files)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}

    with opened(config(place, artifacts="model", requirements="requirements.txt"), Remembering()) as side:
        side.edit()
        side.edit()
        copy = side.config.folder
        assert copy != place
        assert (
            len((copy / "predictor.py").read_text().splitlines())
            == len(before[place / "predictor.py"].splitlines()) + 4
        )
        assert (copy / ".dockerignore").exists()
        assert side.config.artifact_uri == str(place / "model")  # it did not go along
        assert side.config.model.requirements == "requirements.txt"
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_base_that_is_not_here_is_named(folder):
    with (
        pytest.raises(LackingError, match="docker pull python:3.11-slim"),
        sides.base(config(folder({})), Remembering(), lambda _: None),
    ):
        pass


def test_settings_for_pip_go_into_a_base_for_both(folder, monkeypatch):
    engine, contexts = Remembering(), []
    engine.put("python:3.11-slim")

    def build(request, _):
        contexts.append((request.context / "Dockerfile").read_text())
        assert "https://index.example/simple" in (request.context / "index" / "pip.conf").read_text()
        engine.put(request.tag)

    engine.build = build
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    with sides.base(config(folder({})), engine, lambda _: None) as base:
        assert base in engine.there
    assert base not in engine.there
    assert "ENV PIP_CONFIG_FILE=/index/pip.conf" in contexts[0]


def test_without_settings_both_start_from_the_base_itself(folder, monkeypatch):
    engine = Remembering()
    engine.put("python:3.11-slim")
    monkeypatch.setattr(sides, "has_settings", lambda: False)
    with sides.base(config(folder({})), engine, lambda _: None) as base:
        assert base == "python:3.11-slim"


def test_a_build_that_fails_leaves_nothing(folder):
    class Failing(Made):
        def _make(self, output, *, no_cache):
            raise BuildError("RUN x")

    engine = Remembering()
    project = replace(config(folder({"predictor.py": PREDICTOR})))
    with pytest.raises(BuildError), opened(project, engine, Failing) as side:
        side.build()
    assert engine.there == {}
