"""The Python API on whole projects, in one region and in three: plan, up, status, logs, rollback, down."""

import datetime as dt
import threading
from dataclasses import replace

import dep_project
import pytest
from dep_project import REGIONS, fault
from dep_world import CHECK, emulator, engine, image, project  # noqa: F401

from cpr_kit.config import CheckSection, Config
from cpr_kit.deploy import api, render
from cpr_kit.deploy.predict.asking import Asker
from cpr_kit.deploy.vertex.pace import Pace
from cpr_kit.deploy.plan_file import Plan
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import ConfigError, DeployError, UsageError


@pytest.fixture
def config(tmp_path, project):  # noqa: F811
    return dep_project.write(tmp_path / "project", project)


@pytest.fixture
def everywhere(tmp_path, project):  # noqa: F811
    return dep_project.write(tmp_path / "project", project, regions=REGIONS)


def with_image(config, kind):
    return replace(config, image=replace(config.image, name=image(kind)))


def test_a_project_from_nothing_to_nothing(emulator, engine, config):  # noqa: F811
    lines = []
    made = api.up(config, engine=engine, progress=lambda region, line: lines.append((region, line)))
    assert {region: (one.changed, one.version) for region, one in made.done.items()} == {
        "us-central1": (True, "iris@1")
    }
    assert ("us-central1", "upload a version of iris") in lines
    again = api.up(config, engine=engine)
    assert not again.done["us-central1"].changed
    assert api.status(config, engine=engine).passed

    two = with_image(config, "two")
    (drift,) = api.status(two, engine=engine).regions[0].drift
    assert drift.startswith("iris@1 has another image than this folder")
    assert api.status(two, folder=False, engine=engine).passed
    assert api.up(two, engine=engine).done["us-central1"].version == "iris@2"
    (one,) = api.status(two, engine=engine).regions
    assert (one.live.version, one.live.traffic, one.idle) == ("iris@2", 100, ("iris@1 (previous)",))

    assert api.rollback(two).done["us-central1"].version == "iris@1"
    assert api.plan_down(two).changes
    api.down(two)
    assert not api.plan_down(two).changes
    assert api.status(two, engine=engine).regions[0].drift == ('there is no endpoint "iris"',)


def test_a_checkout_without_model_and_requests_can_roll_back_and_take_down(emulator, engine, config):  # noqa: F811
    """A model is seldom in version control; whoever has to go back is not to need it."""
    api.up(config, engine=engine)
    api.up(with_image(config, "two"), engine=engine)
    bare = replace(
        config,
        model=replace(config.model, artifacts="model/"),
        checks=(CheckSection(request="requests/nowhere.json"),),
    )
    (one,) = api.status(bare, engine=engine).regions
    assert one.live.version == "iris@2"
    assert any(line.startswith("not compared with this folder:") for line in one.drift)
    assert api.rollback(bare).done["us-central1"].version == "iris@1"
    api.down(bare)
    assert not api.plan_down(bare).changes


def test_a_plan_is_done_exactly_or_refused(emulator, engine, config, tmp_path):  # noqa: F811
    made = api.plan(config, engine=engine)
    made.write(tmp_path / "iris.plan")
    plan = Plan.read(tmp_path / "iris.plan")
    assert plan == made
    api.up(config, plan=plan, engine=engine)

    with pytest.raises(DeployError) as caught:
        api.up(config, plan=plan, engine=engine)
    assert "us-central1: in the plan: create endpoint iris (there is none of that name (public))" in str(caught.value)
    assert "us-central1: now: keep endpoint iris" in str(caught.value)
    assert not api.plan(config, engine=engine).changes
    api.down(config)


def test_a_plan_of_another_image_is_refused_before_anything_is_done(emulator, engine, config):  # noqa: F811
    plan = api.plan(config, engine=engine)
    with pytest.raises(DeployError, match="the plan no longer holds"):
        api.up(with_image(config, "two"), plan=plan, engine=engine)
    assert api.plan(config, engine=engine) == plan


def test_a_plan_is_for_its_own_regions_and_canary(emulator, engine, config):  # noqa: F811
    plan = api.plan(config, engine=engine)
    with pytest.raises(UsageError, match="the plan is for us-central1, and not for asia-east1"):
        api.up(config, plan=plan, regions=["asia-east1"], engine=engine)
    with pytest.raises(UsageError, match="the plan has a canary of 0 %, and not of 10 %"):
        api.up(config, plan=plan, canary=10, engine=engine)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no json", "line 1, column 1: this is no JSON"),
        (b"\xff\xfe", "is no plan; make one"),
        ("[]", "it is no plan of this cpr"),
        ('{"format": "cpr-plan/2"}', 'its format is "cpr-plan/2"'),
        ('{"format": "cpr-plan/1", "canary": 0, "regions": [{"region": "x"}]}', "it is no whole plan"),
        ('{"format": "cpr-plan/1", "canary": 0, "regions": []}', "regions or canary are not there"),
    ],
)
def test_what_is_no_plan_says_so(tmp_path, content, said):
    path = tmp_path / "a.plan"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as caught:
        Plan.read(path)
    assert said in str(caught.value)
    assert "codec" not in str(caught.value)
    assert "cpr plan --out" in str(caught.value)


def test_three_regions_of_which_one_fails_and_is_mended_alone(emulator, engine, everywhere, project):  # noqa: F811
    refused = {"call": "UploadModel", "location": "europe-west4", "status": "PERMISSION_DENIED"}
    with fault(emulator, **refused), pytest.raises(api.RegionsFailed) as caught:
        api.up(everywhere, engine=engine)
    results = caught.value.results
    assert list(results.done) == ["us-central1", "asia-east1"]
    assert list(results.failed) == ["europe-west4"]
    assert "PERMISSION_DENIED" in str(results.failed["europe-west4"])
    assert Vertex(project, "europe-west4").endpoints() == []

    mended = api.up(everywhere, engine=engine)
    assert {region: one.changed for region, one in mended.done.items()} == {
        "us-central1": False,
        "europe-west4": True,
        "asia-east1": False,
    }
    found = api.status(everywhere, engine=engine)
    assert found.passed
    assert len({region.live.contents.image for region in found.regions}) == 1
    assert {ask(project, region) for region in REGIONS} == {b'{"predictions":[3,7]}'}
    api.down(everywhere)
    assert [Vertex(project, region).endpoints() for region in REGIONS] == [[], [], []]


def ask(project, region):  # noqa: F811
    endpoint = Vertex(project, region).endpoint("iris")
    answer = Asker(endpoint, project, region).predict(CHECK.body, "application/json")
    assert answer.status == 200
    return b'{"predictions":[3,7]}' if b"7" in answer.body and b"3" in answer.body else answer.body


def test_a_region_that_has_something_else_is_reported_as_drift(emulator, engine, everywhere):  # noqa: F811
    regions = REGIONS[:2]
    api.up(everywhere, regions=regions, engine=engine)
    api.up(with_image(everywhere, "two"), regions=regions[1:], engine=engine)
    first, second = api.status(everywhere, regions=regions, engine=engine).regions

    assert first.drift == ()
    assert any("than iris@1 in us-central1" in line for line in second.drift)
    assert any("than this folder" in line for line in second.drift)
    api.down(everywhere, regions=regions)


def test_a_region_that_cannot_be_asked_is_shown_as_that(emulator, engine, everywhere):  # noqa: F811
    refused = {"call": "GetEndpoint", "location": "asia-east1", "status": "PERMISSION_DENIED"}
    with fault(emulator, **refused):
        found = api.status(everywhere, engine=engine)
    assert ["PERMISSION_DENIED" in region.error for region in found.regions] == [False, False, True]
    assert "asia-east1: could not be asked" in render.status(found)


def test_the_log_is_that_of_the_project_s_endpoint_alone(emulator, engine, config, tmp_path):  # noqa: F811
    began = dt.datetime.now(dt.timezone.utc)
    api.up(config, engine=engine)
    entries = list(api.logs(config))
    assert entries
    assert "serving one" in {entry.message for entry in entries}
    assert {(entry.region, entry.endpoint) for entry in entries} == {("us-central1", "iris")}
    (deployed,) = {entry.deployed_model for entry in entries}
    assert began < entries[0].time < dt.datetime.now(dt.timezone.utc)
    assert list(api.logs(config, deployed_model=deployed))[: len(entries)] == entries
    assert list(api.logs(config, deployed_model="1")) == []
    assert list(api.logs(config, severity="error")) == []
    api.down(config)
    with pytest.raises(DeployError, match='there is no endpoint "iris" in us-central1'):
        api.logs(config)


def test_following_the_log_tells_each_entry_once_and_goes_on(emulator, engine, config):  # noqa: F811
    """The second version's line comes while the first ones are long known."""
    api.up(config, engine=engine)
    stop, told, come = threading.Event(), [], threading.Event()

    def follow():
        for entry in api.logs(config, follow=True, stop=stop):
            told.append(entry)
            if entry.message == "serving two":
                come.set()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        api.up(with_image(config, "two"), engine=engine)
        assert come.wait(60)
    finally:
        stop.set()
        thread.join()
    assert len({entry.id for entry in told}) == len(told)
    assert {"serving one", "serving two"} <= {entry.message for entry in told}
    api.down(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, r"\[image\] name \(CPR_IMAGE_NAME\) is missing"),
        ({"name": "iris:1"}, "iris:1"),
        ({"platform": "linux/arm64"}, "Vertex AI runs linux/amd64 alone"),
    ],
)
def test_what_cpr_toml_lacks_is_said_before_any_call(engine, config, change, said):  # noqa: F811
    with pytest.raises(ConfigError, match=said):
        api.plan(replace(config, image=replace(config.image, **change)), engine=engine)


def test_a_folder_is_read_where_no_config_is_given(emulator, engine, config, monkeypatch):  # noqa: F811
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    assert Config.read(config.folder).deploy.project == config.deploy.project
    assert api.plan(str(config.folder), engine=engine) == api.plan(config, engine=engine)


def test_each_upload_and_each_deployment_takes_its_turn(emulator, engine, config, monkeypatch):  # noqa: F811
    turns = []

    class Counted(Pace):
        def delay(self):
            turns.append(super().delay())
            return 0.0

    monkeypatch.setattr(api, "Pace", Counted)
    api.up(config, engine=engine)
    assert len(turns) == 2
    api.up(config, engine=engine)
    assert len(turns) == 2
    api.down(config)


@pytest.mark.parametrize("share", [100, -1])
def test_a_canary_s_share_is_a_percent(engine, config, share):  # noqa: F811
    with pytest.raises(ConfigError, match="1 to 99"):
        api.plan(config, canary=share, engine=engine)
