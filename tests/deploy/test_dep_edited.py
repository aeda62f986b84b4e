"""A folder whose code is no longer what its image was built from: `plan` and `status` say so."""

import json
import os
import uuid
from dataclasses import replace
from pathlib import Path

import dep_project
import dep_registry
import dep_target
import pytest
from contexts import write_context
from dep_world import emulator, engine, image, project  # noqa: F401

from cpr_kit.build import context, state
from cpr_kit.build.source import Source
from cpr_kit.config import Config
from cpr_kit.deploy import api, render
from cpr_kit.deploy.facts import Facts
from cpr_kit.deploy.images import OneImage
from cpr_kit.deploy.plan import decide
from cpr_kit.deploy.registry.client import Client
from cpr_kit.deploy.registry.names import Name
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.engine.protocol import Build
from cpr_kit.source_state import LABEL, Built, SourceState, difference

PREDICTOR = """
from cpr_kit import Predictor


class Sums(Predictor):
    def load(self, artifacts_uri):
        pass

    def predict(self, request):
        return {"predictions": [sum(row) for row in request["instances"]]}
"""
SERVER = Path(__file__).with_name("dep_server.py")
LONG_AGO = 1_600_000_000


@pytest.fixture
def folder(tmp_path):
    """Written long before any image of it."""
    made = tmp_path / "sums"
    made.mkdir()
    (made / "cpr.toml").write_text('[model]\npredictor = "predictor:Sums"\n')
    (made / "predictor.py").write_text(PREDICTOR)
    (made / "helper.py").write_text("VALUE = 1\n")
    (made / "empty").mkdir()
    for path in made.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return made


def read(folder):
    return Config.read(folder, environ={})


def built(folder, **changes):
    """What the label of an image of the folder says."""
    return Built(**{"labels": {LABEL: state.read(read(folder)).digest}, "created": "2026-01-31T12:00:00Z", **changes})


def test_the_digest_is_that_of_a_build_s_label(folder, tmp_path):
    made = tmp_path / "context"
    made.mkdir()
    context.make(Source.read(read(folder)), made)
    assert f'LABEL {LABEL}="{state.read(read(folder)).digest}"' in (made / "Dockerfile").read_text()


def test_what_differs_is_named_as_exactly_as_the_label_allows(folder):
    image = built(folder)
    assert difference(state.read(read(folder)), image) == ""
    os.utime(folder / "helper.py")
    assert difference(state.read(read(folder)), image) == "", "written anew, and the same"

    (folder / "predictor.py").write_text(PREDICTOR + "\n")
    assert difference(state.read(read(folder)), image) == (
        "helper.py and 1 more changed after this image was built at 2026-01-31 12:00:00 UTC; "
        "to deploy what is here, run cpr build first"
    )
    os.utime(folder / "helper.py", (LONG_AGO, LONG_AGO))
    assert difference(state.read(read(folder)), image).startswith("predictor.py changed after this image")
    os.utime(folder / "predictor.py", (LONG_AGO, LONG_AGO))
    assert difference(state.read(read(folder)), image).startswith("the code of this folder is not what its image was")
    for nobody_says in ("", "0001-01-01T00:00:00Z", "yesterday"):
        assert "UTC" not in difference(state.read(read(folder)), replace(image, created=nobody_says))


@pytest.mark.parametrize(
    ("more", "is_edit"),
    [
        ("[deploy]\nmin_replicas = 2\n", False),
        ('[[check]]\nrequest = "predictor.py"\n', False),
        ('[image]\nname = "us-docker.pkg.dev/p/r/sums:2"\n', False),
        ('artifacts = "gs://bucket/model"\n', False),
        ("# a comment\n", False),
        ("trusted = true\n", True),
        ("[serve]\nworkers = 2\n", True),
        ('[image]\nbase = "python:3.12-slim"\n', True),
    ],
)
def test_of_cpr_toml_only_what_makes_the_image_is_an_edit(folder, more, is_edit):
    image = built(folder)
    with (folder / "cpr.toml").open("a") as file:
        file.write(more)
    said = (
        "cpr.toml changed after this image was built at 2026-01-31 12:00:00 UTC; to deploy what is here, run cpr build"
    )
    assert difference(state.read(read(folder)), image) == (f"{said} first" if is_edit else "")
    (folder / "predictor.py").write_text(PREDICTOR + "\n")
    line = difference(state.read(read(folder)), image)
    assert line.startswith("predictor.py and 1 more changed"), "cpr.toml may be newer for what is in no image"


def test_an_image_without_the_label_says_nothing(folder):
    assert difference(state.read(read(folder)), built(folder, labels={})) == ""


def test_code_that_cannot_be_read_is_no_reason_to_fail(folder):
    image = built(folder)
    (folder / "predictor.py").write_text("class Sums(:\n")
    line = difference(state.read(read(folder)), image)
    assert line.startswith("the code of this folder was not compared with its image's: ")
    assert "predictor.py" in line


@pytest.mark.parametrize("more", ['[image]\ndockerfile = "Dockerfile"', '[image]\ntemplate = "foreign"\nbase = "a:1"'])
def test_images_without_the_label_are_not_compared(folder, more):
    (folder / "cpr.toml").write_text(more)
    (folder / "Dockerfile").write_text("FROM a:1\n")
    assert state.read(read(folder)) is None


def build(engine, folder, tmp_path, name):  # noqa: F811
    """An image of the process engine with the folder's code, whose program is the tests' server."""
    made = write_context(tmp_path / uuid.uuid4().hex)
    (made / "code" / "server.py").unlink()
    (made / "code").rmdir()
    context.code(Source.read(read(folder)), made)
    engine.build(Build(context=made, tag=name), lambda _: None)


@pytest.fixture
def deployed(folder, project, emulator, engine, tmp_path):  # noqa: F811
    """A project whose image is built and serves."""
    name = image(uuid.uuid4().hex[:8])
    dep_project.write(folder, project, kind=name.rpartition(":")[2])
    text = (folder / "cpr.toml").read_text()
    (folder / "cpr.toml").write_text('[model]\npredictor = "predictor:Sums"\n' + text)
    (folder / "server.py").write_text(SERVER.read_text())
    (folder / "kind.txt").write_text("one")
    build(engine, folder, tmp_path, name)
    config = read(folder)
    api.up(config, engine=engine)
    yield config
    api.down(config)


def test_plan_and_status_tell_that_the_code_was_edited(deployed, engine):  # noqa: F811
    config = deployed
    assert all(
        "this folder" not in line for line in api.plan(config, engine=engine, source=state.read(config)).warnings
    )
    assert api.status(config, engine=engine, source=state.read(config)).passed

    (config.folder / "predictor.py").write_text(PREDICTOR + "\n# edited\n")
    plan = api.plan(config, engine=engine, source=state.read(config))
    assert not plan.changes
    assert plan.warnings[0].startswith("predictor.py changed after this image was built at 2")
    assert "warning: predictor.py changed after this image" in render.plan(plan)
    found = api.status(config, engine=engine, source=state.read(config))
    assert not found.passed
    assert f"warning: {plan.warnings[0]}" in render.status(found)
    assert found.to_json()["warnings"] == [plan.warnings[0]]
    assert api.status(config, engine=engine).passed, "who does not hand over the code is told nothing of it"


def test_an_edit_of_deploy_alone_deploys_the_same_version_anew(deployed, engine, tmp_path):  # noqa: F811
    config = deployed
    name, before = config.image.name, engine.image(deployed.image.name)
    assert before.labels[LABEL] == state.read(config).digest, "what a container engine's label says too"
    text = (config.folder / "cpr.toml").read_text()
    edited = text.replace("[deploy]", '[deploy]\nmachine_type = "n1-standard-4"')
    assert edited != text
    (config.folder / "cpr.toml").write_text(edited)
    config = read(config.folder)
    unbuilt = api.plan(config, engine=engine, source=state.read(config))
    build(engine, config.folder, tmp_path, name)
    assert engine.image(name).id == before.id
    plan = api.plan(config, engine=engine, source=state.read(config))
    for each in (unbuilt, plan):
        # Traffic in two steps, for the checks: a part of it, and then all.
        assert [step.action for step in each.regions[0].steps if step.action != "keep"] == [
            "deploy", "shift", "shift", "undeploy",
        ]  # fmt: skip
        assert not any("run cpr build" in line for line in each.warnings)
    (config.folder / "cpr.toml").write_text(edited.replace("[model]", "[model]\ntrusted = true"))
    build(engine, config.folder, tmp_path, name)
    assert engine.image(name).id != before.id
    assert "upload" in [step.action for step in api.plan(config, engine=engine).regions[0].steps]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with dep_registry.serving(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def target(registry, monkeypatch):
    monkeypatch.setenv("CPR_REGISTRY", registry.address)
    return dep_target.target(image=f"us-central1-docker.pkg.dev/dep-edited/{uuid.uuid4().hex[:8]}/iris:1")


def config_of(architecture, label):
    config = {"Labels": {LABEL: label}} if label else {}
    return {"os": "linux", "architecture": architecture, "created": "2026-01-31T12:00:00.5Z", "config": config}


@pytest.mark.parametrize("label", ["sha256:aa", ""])
def test_an_image_that_only_the_registry_has_is_read_there(registry, target, label):
    with Client(Name.parse(f"{registry.address}/{target.image}"), write=True) as client:
        dep_registry._put(client, json.dumps(config_of("amd64", label)).encode(), [b"a layer"], client.name.version)
    found = OneImage(ProcessEngine(), [target], target.image).built()
    assert found == Built(labels={LABEL: label} if label else {}, created="2026-01-31T12:00:00.5Z")
    line = difference(SourceState(digest="sha256:bb", written={"a.py": 2e9}), found)
    assert line.startswith("a.py changed after this image was built at 2026-01-31 12:00:00 UTC") == bool(label)


def test_of_several_platforms_the_one_that_vertex_ai_runs_is_read(registry, target):
    dep_registry.put_index(f"{registry.address}/{target.image}")
    found = OneImage(ProcessEngine(), [target], target.image).built()
    assert found == Built(labels={}, created="")


def test_an_image_that_is_nowhere_is_not_compared(target):
    assert OneImage(ProcessEngine(), [target], target.image).built() is None


@pytest.mark.engine
def test_a_container_engine_s_image_carries_its_labels(target, tmp_path):
    engine = DockerEngine()  # noqa: F811
    name = f"dep-edited-{uuid.uuid4().hex[:8]}:1"
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text(f'FROM scratch\nCOPY a /a\nLABEL {LABEL}="sha256:aa"\n')
    (tmp_path / "context" / "a").touch()
    engine.build(Build(context=tmp_path / "context", tag=name), lambda _: None)
    try:
        found = OneImage(engine, [target], name).built()
    finally:
        engine.remove_image(name)
    assert found.labels[LABEL] == "sha256:aa"
    assert found.created.startswith("20")


def test_a_plan_holds_in_another_clone_of_the_same_content():
    """Artifacts of a folder are what they hold; those of a bucket are what is uploaded, under their name."""
    same = Facts(endpoint=None, versions=(), reference="i", digest="sha256:aa", artifacts="1" * 64)
    here, there = (dep_target.target(artifacts=folder, staging="gs://b") for folder in ("/a/model", "/b/model"))
    assert decide(here, same).fingerprint == decide(there, same).fingerprint
    assert decide(here, same).fingerprint != decide(here, replace(same, artifacts="2" * 64)).fingerprint
    one, other = (dep_target.target(artifacts=uri) for uri in ("gs://b/one", "gs://b/other"))
    assert decide(one, same).fingerprint != decide(other, same).fingerprint
