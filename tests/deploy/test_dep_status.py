"""What serves where, and what drifts: decided from plain values."""

import datetime as dt

import dep_target
import pytest

from cpr_kit.deploy import render, status
from cpr_kit.deploy.resources import Deployed, Endpoint, Version
from cpr_kit.deploy.status import Contents
from cpr_kit.deploy.target import Scale

MADE = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
IMAGE, OTHER = "a" * 64, "b" * 64
FILES = "c" * 64


def version(number="1", *, image=IMAGE, artifacts=FILES, aliases=("live",), ours=True):
    labels = {"cpr-kit": "iris", "cpr-image": image[:40]} if ours else {}
    if ours and artifacts:
        labels["cpr-artifacts"] = artifacts[:40]
    mark = f"cpr up: endpoint iris, key {'0' * 32}" if ours else ""
    return Version(model="iris", number=number, labels=labels, aliases=aliases, description=mark, created=MADE)


def deployed(number="1", *, traffic=100, available=1, model="iris", low=1, high=1):
    return Deployed(
        id=f"100{number}",
        display_name=number,
        model=model,
        number=number,
        traffic=traffic,
        available_replicas=available,
        scale=Scale(min_replicas=low, max_replicas=high),
        created=MADE,
    )


def endpoint(*models, region="us-central1", kind="public", labels=(("cpr-kit", "iris"),)):
    return Endpoint(
        id="iris",
        name=f"projects/1/locations/{region}/endpoints/iris",
        display_name="iris",
        kind=kind,
        labels=dict(labels),
        deployed=models,
        created=MADE,
    )


def region(name="us-central1", there=None, versions=None):
    there = endpoint(deployed(), region=name) if there is None else there
    return status.of_region(dep_target.target(region=name), there, [version()] if versions is None else versions)


def drift(*regions, folder=None):
    targets = {each.region: dep_target.target(region=each.region) for each in regions}
    found = status.compared(regions, targets, dict.fromkeys(targets, folder) if folder else {})
    return {each.region: each.drift for each in found}


def test_what_is_as_it_ought_to_be_does_not_drift():
    regions = region(), region("europe-west4")
    assert drift(*regions, folder=Contents.of(f"sha256:{IMAGE}", FILES)) == {"us-central1": (), "europe-west4": ()}
    assert status.Status(regions=regions).passed


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ([version(image=OTHER)], "iris@1 has another image than iris@1 in us-central1"),
        ([version(artifacts="d" * 64)], "iris@1 has another set of artifacts than iris@1 in us-central1"),
        ([version(artifacts=None)], "set of artifacts than iris@1 in us-central1: none"),
    ],
)
def test_a_region_that_has_something_else_than_the_first_drifts(versions, said):
    found = drift(region(), region("europe-west4", versions=versions))

    assert found["us-central1"] == ()
    assert said in found["europe-west4"][0]


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        (Contents.of(f"sha256:{OTHER}", FILES), "another image than this folder: sha256:aaaaaaaaaaaa there"),
        (Contents.of("", FILES), "one not yet pushed here"),
        (Contents.of(f"sha256:{IMAGE}", None), "set of artifacts than this folder: cccccccccccc there, none here"),
    ],
)
def test_a_folder_that_has_changed_since_drifts(folder, said):
    assert said in drift(region(), folder=folder)["us-central1"][0]


def test_what_is_not_known_of_the_folder_is_not_compared():
    assert drift(region(), folder=Contents(image=None, artifacts=None)) == {"us-central1": ()}


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (endpoint(), "nothing is deployed to the endpoint"),
        (endpoint(deployed(), kind="dedicated"), "the endpoint's kind is dedicated, in cpr.toml public"),
        (
            endpoint(deployed(traffic=90), deployed("7", traffic=10, model="other")),
            "other@7 (deployed model 1007, 10 % of the traffic) is not of cpr up",
        ),
        (endpoint(deployed(available=1, low=2, high=3)), "iris@1 has 1 of at least 2 replicas"),
    ],
)
def test_an_endpoint_that_is_not_what_it_ought_to_be_drifts(there, said):
    assert said in drift(region(there=there))["us-central1"]


def test_a_region_without_an_endpoint_drifts():
    found = status.of_region(dep_target.target(), None, [version()])

    assert found.idle == ("iris@1 (live)",)
    assert drift(found)["us-central1"] == ('there is no endpoint "iris"',)


def test_a_region_that_could_not_be_asked_is_not_compared_and_does_not_pass():
    broken = status.RegionStatus(region="europe-west4", display_name="iris", error="UNAVAILABLE")
    found = status.Status(regions=(region(), broken))

    assert drift(region(), broken) == {"us-central1": (), "europe-west4": ()}
    assert not found.passed
    assert "europe-west4: could not be asked: UNAVAILABLE" in render.status(found, MADE)


def test_what_was_made_live_is_compared_whatever_its_traffic():
    there = endpoint(deployed("1", traffic=90), deployed("2", traffic=10))
    found = region(there=there, versions=[version("1", aliases=("previous",)), version("2", image=OTHER)])
    assert found.live.version == "iris@2"


def test_the_table_says_all_of_a_deployed_model():
    there = endpoint(deployed("1", traffic=90, low=1, high=3), deployed("2", traffic=10, available=None))
    versions = [version("1"), version("2", image=OTHER, aliases=("candidate", "default")), version("3", aliases=())]
    found = status.Status(regions=(region(there=there, versions=versions),))
    lines = render.status(found, MADE + dt.timedelta(hours=5)).splitlines()

    assert lines[0].split() == list(render._COLUMNS)
    assert lines[1].split("  ")[0] == "us-central1"
    for word in ("iris@1 (live)", "90 %", "1 of 1-3", "sha256:aaaaaaaaaaaa", "cccccccccccc", "5 h"):
        assert word in lines[1], word
    for word in ("iris@2 (candidate)", "10 %", "? of 1", "sha256:bbbbbbbbbbbb"):
        assert word in lines[2], word
    assert "us-central1: deployed nowhere: iris@3" in lines


def test_json_has_the_same():
    value = status.Status(regions=(region(),)).to_json()

    assert value["passed"] is True
    (one,) = value["regions"]
    assert one["endpoint"] == "projects/1/locations/us-central1/endpoints/iris"
    assert one["serving"][0]["contents"] == {"image": "a" * 40, "artifacts": "c" * 40}
    assert one["serving"][0]["created"] == MADE.isoformat()
