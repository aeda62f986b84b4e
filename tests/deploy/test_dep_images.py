"""One image in several regions' repositories: a real registry, pushed to once, the others get a copy by its digest."""

import uuid
from dataclasses import replace

import dep_target
import pytest
from dep_registry import load, put, served_digest, serving

from cpr_kit.deploy.images import OneImage
from cpr_kit.deploy.observe import image_digest
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.errors import ConfigError, LackingError

REGIONS = ("us-central1", "europe-west4", "asia-east1")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def targets(registry, monkeypatch):
    """Of a repository of the test's own, at the registry that stands for Google's."""
    monkeypatch.setenv("CPR_REGISTRY", registry.address)
    path = f"dep-images/{uuid.uuid4().hex[:8]}/iris:1"
    return [dep_target.target(region=each, image=f"{each}-docker.pkg.dev/{path}") for each in REGIONS]


@pytest.fixture
def built(targets):
    """An image of the real engine, under the first region's name alone."""
    engine = DockerEngine()
    load(engine, targets[0].image, (b"one", b"two"))
    yield engine
    engine.remove_image(targets[0].image)


def digests(registry, targets):
    return [served_digest(f"{registry.address}/{target.image}") for target in targets]


def spread(images, targets, lacking):
    lines = []
    failed = images.spread([each.region for each in targets], lacking, lambda *told: lines.append(told))
    return failed, [(region, line.split()[0]) for region, line in lines if line.startswith(("pushing", "copying "))]


@pytest.mark.engine
def test_what_was_built_is_pushed_once_and_copied_to_the_others(registry, targets, built):
    images = OneImage(built, targets, targets[0].image)
    assert dict(images.digests()) == dict.fromkeys(REGIONS, "")
    failed, told = spread(images, targets, REGIONS)

    assert failed == {}
    assert ("us-central1", "pushing") in told
    assert [region for region, word in told if word == "pushing" and region != "us-central1"] == []
    assert {region for region, word in told if word == "copying"} == {"europe-west4", "asia-east1"}
    assert len(set(digests(registry, targets))) == 1
    assert set(dict(images.digests()).values()) == set(digests(registry, targets))
    assert built.image(targets[1].image) is None


@pytest.mark.engine
def test_what_was_built_anew_replaces_what_other_regions_have(registry, targets, built):
    spread(OneImage(built, targets, targets[0].image), targets, REGIONS)
    before = digests(registry, targets)
    load(built, targets[0].image, (b"three",))
    images = OneImage(built, targets, targets[0].image)
    assert dict(images.digests()) == dict.fromkeys(REGIONS, "")
    spread(images, targets, REGIONS)

    assert len({*before, *digests(registry, targets)}) == 2


def test_without_an_engine_s_image_the_first_registry_s_is_copied(registry, targets):
    manifest = put(f"{registry.address}/{targets[1].image}", layers=(b"of", b"another"))
    put(f"{registry.address}/{targets[2].image}", layers=(b"old",), variant="v2")
    images = OneImage(ProcessEngine(), targets, targets[0].image)
    found = dict(images.digests())
    assert found == {"us-central1": "", "europe-west4": manifest.digest, "asia-east1": ""}
    failed, told = spread(images, targets, ["us-central1", "asia-east1"])

    assert failed == {}
    assert {region for region, word in told if word == "copying"} == {"us-central1", "asia-east1"}
    assert digests(registry, targets) == [manifest.digest] * 3


def test_one_region_s_failure_leaves_the_others_with_the_image(registry, targets):
    manifest = put(f"{registry.address}/{targets[0].image}")
    wrong = [
        targets[0],
        replace(targets[1], image=targets[1].image.replace("europe-west4", "europe-west1")),
        targets[2],
    ]
    failed, _ = spread(OneImage(ProcessEngine(), wrong, targets[0].image), wrong, REGIONS[1:])

    assert list(failed) == ["europe-west4"]
    assert isinstance(failed["europe-west4"], ConfigError)
    assert digests(registry, [targets[0], targets[2]]) == [manifest.digest] * 2


def test_an_image_that_is_nowhere_is_lacking(targets):
    images = OneImage(ProcessEngine(), targets, targets[0].image)
    assert dict(images.digests()) == dict.fromkeys(REGIONS)
    with pytest.raises(LackingError, match="build it: cpr build"):
        image_digest(targets[0], images.engine)
