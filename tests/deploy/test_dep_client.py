"""RegionalClient: three regions of a real emulator with real models, one of which stops, errs or is slow."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from dep_endpoints import PROJECT, Front, gate  # noqa: F401
from emu_data_plane import ROUTES, TAG, built
from google.cloud import aiplatform
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.deploy.predict.client import RegionalClient
from cpr_kit.deploy.predict.routing import Routes
from cpr_kit.emulator.program import emulate
from cpr_kit.engine.choose import choose
from cpr_kit.errors import ConfigError, DeployError, PredictionError, UsageError

AMERICA, EUROPE, ASIA = REGIONS = ("us-central1", "europe-west4", "asia-east1")
WHO = [{"do": "who"}]


class World:
    """An endpoint of the same name in each region."""

    def __init__(self, emulator, calls):
        self.calls = calls
        self._faults = f"{emulator.url}/emulator/faults"
        self._models = {}
        for region in REGIONS:
            aiplatform.init(project=PROJECT, location=region, api_transport="rest")
            self._models[region] = aiplatform.Model.upload(
                display_name="m", serving_container_image_uri=TAG, location=region, **ROUTES
            )
            self.start(region)

    def start(self, region, name="iris", **options):
        endpoint = aiplatform.Endpoint.create(display_name=name, endpoint_id=name, location=region, **options)
        self.deploy(endpoint, region)

    def deploy(self, endpoint, region):
        self._models[region].deploy(endpoint=endpoint, machine_type="n1-standard-2")

    def endpoint(self, region, name="iris"):
        return aiplatform.Endpoint(name, location=region)

    def deployed(self, region):
        return self.endpoint(region).list_models()[0].id

    def fault(self, text):
        requests.post(self._faults, json=text, timeout=30).raise_for_status()

    def faults(self):
        return requests.get(self._faults, timeout=30).json()["faults"]

    def heal(self):
        requests.delete(self._faults, timeout=30).raise_for_status()

    def asked(self, method):
        """How often, since the calls were cleared."""
        return sum(call.method == method for call in self.calls)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    engine, calls = choose("process").engine, []
    built(engine, tmp_path_factory.mktemp("regions"))
    try:
        with emulate(engine=engine, show=calls.append) as emulator:
            yield World(emulator, calls)
    finally:
        engine.remove_image(TAG)


@pytest.fixture
def world(emulated):
    emulated.calls.clear()
    yield emulated
    emulated.heal()


def client(**options):
    return RegionalClient(PROJECT, "iris", REGIONS, **{"near": "europe-west1", **options})


# Where a request goes


def test_the_nearest_region_answers(world):
    with client() as regional:
        assert regional.order == (EUROPE, AMERICA, ASIA)
        found = regional.predict(WHO)
    assert (found.region, found.failed, regional.down) == (EUROPE, {}, ())
    assert found.deployed_model_id == found.predictions[0]["id"] == world.deployed(EUROPE)
    assert found.model_version_id == "1"


def test_without_near_the_order_is_that_of_the_list(world):
    with RegionalClient(PROJECT, "iris", [ASIA, EUROPE]) as regional:
        assert (regional.order, regional.predict(WHO).region) == ((ASIA, EUROPE), ASIA)


def test_a_raw_prediction(world):
    with client() as regional:
        found = regional.raw_predict(b"\x00\x01", {"content-type": "image/png", "X-Ask": "hi"})
    assert (found.region, found.status, found.body, found.content_type) == (EUROPE, 200, b"\x01\x00", "image/png")
    assert found.answer.headers["x-echo"] == "hi"


def test_parameters_are_sent(world):
    with client() as regional:
        (seen,) = regional.predict([{"do": "show"}], parameters={"k": 1.5}).predictions
    assert seen["body"] == '{"instances":[{"do":"show"}],"parameters":{"k":1.5}}'


# A region that stops


def test_a_region_stops_and_comes_back_and_no_request_is_lost(world):
    """Four callers ask all the time, 200 times at least, while the nearest region's model is undeployed."""
    found, under_way, gone = [], threading.Event(), threading.Event()

    def ask():
        while not gone.is_set() or len(found) < 200:
            found.append(regional.predict(WHO).region)
            if len(found) >= 50:
                under_way.set()

    with client(cool_down_s=0.2) as regional, ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(ask) for _ in range(4)]
        try:
            assert under_way.wait(60)
            world.endpoint(EUROPE).undeploy_all()
        finally:
            gone.set()
        for caller in callers:
            caller.result()
        assert set(found[:50]) == {EUROPE}
        assert set(found) == {EUROPE, AMERICA}
        assert {regional.predict(WHO).region for _ in range(5)} == {AMERICA}
        assert regional.down == (EUROPE,)

        world.deploy(world.endpoint(EUROPE), EUROPE)
        until_back(regional)
        assert {regional.predict(WHO).region for _ in range(10)} == {EUROPE}
        assert regional.down == ()


def until_back(regional):
    deadline = time.monotonic() + 60
    while regional.predict(WHO).region != EUROPE:
        assert time.monotonic() < deadline


def test_an_endpoint_that_is_deleted_and_made_anew(world):
    with client(cool_down_s=0.0) as regional:
        assert regional.predict(WHO).region == EUROPE
        world.endpoint(EUROPE).delete(force=True)
        found = regional.predict(WHO)
        assert found.region == AMERICA
        assert found.failed[EUROPE].startswith("404: ")
        again = regional.predict(WHO)
        assert again.failed[EUROPE].startswith(f'project {PROJECT} has no endpoint "iris" in europe-west4')
        world.start(EUROPE)
        assert regional.predict(WHO).region == EUROPE


def test_a_region_that_is_down_is_not_asked_until_its_time_has_come(world):
    world.fault("predict:location=europe-west4:status=503:message=no-capacity")
    with client(cool_down_s=3600.0) as regional:
        for _ in range(10):
            assert regional.predict(WHO).region == AMERICA
        assert regional.down == (EUROPE,)
    assert [fault["struck"] for fault in world.faults()] == [1]


def test_why_a_region_did_not_answer_is_said(world):
    world.fault("predict:location=europe-west4:status=503:message=no-capacity")
    with client() as regional:
        assert regional.predict(WHO).failed == {EUROPE: "503: no-capacity"}


def test_all_are_asked_again_when_none_has_answered(world):
    world.fault("predict:status=503:count=4")
    with client(cool_down_s=3600.0) as regional:
        found = regional.predict(WHO)
    assert found.region == AMERICA  # the second of the second round
    assert found.failed.keys() == {EUROPE, ASIA}


def test_no_region_answers(world):
    world.fault("predict:status=503:message=no-capacity")
    with client() as regional:
        with pytest.raises(PredictionError, match="503: no-capacity .*asia-east1; before it europe-west4: 503: no-cap"):
            regional.predict(WHO)
        assert regional.raw_predict(b"{}").status == 200  # it is rawPredict that has no fault
    assert [fault["struck"] for fault in world.faults()] == [9]


# What is not a region's fault


def test_a_request_that_is_wrong_is_wrong_everywhere(world):
    order = {"do": "answer", "status": 400, "text": "each instance needs 4 numbers"}
    with client() as regional:
        with pytest.raises(PredictionError, match=r"400: each instance needs 4 numbers \(europe-west4\)"):
            regional.predict([order])
        found = regional.raw_predict(b'{"do": "answer", "status": 404, "text": "none"}')
        assert (found.region, found.status, found.body) == (EUROPE, 404, b"none")
        assert regional.down == ()
    assert (world.asked("Predict"), world.asked("RawPredict")) == (1, 1)


def test_a_request_that_breaks_every_model_takes_no_region_down(world):
    with client() as regional:
        with pytest.raises(PredictionError, match="500: oh no"):
            regional.predict([{"do": "answer", "status": 500, "text": "oh no"}])
        assert regional.down == ()
        assert regional.predict(WHO).region == EUROPE


def test_a_500_of_one_region_alone_takes_it_down(world):
    world.fault("predict:location=europe-west4:status=500")
    with client() as regional:
        assert regional.predict(WHO).region == AMERICA
        assert regional.down == (EUROPE,)


def test_a_429_is_given_a_pause_and_no_blame(world):
    world.fault("predict:location=europe-west4:status=429:count=1")
    with client() as regional:
        found = regional.predict(WHO)
        assert (found.region, found.failed, regional.down) == (EUROPE, {}, ())


def test_a_429_that_stays_goes_on_to_the_next(world):
    world.fault("predict:location=europe-west4:status=429:message=quota")
    with client() as regional:
        found = regional.predict(WHO)
        assert (found.region, found.failed, regional.down) == (AMERICA, {EUROPE: "429: quota"}, ())
    assert [fault["struck"] for fault in world.faults()] == [2]


def test_a_429_that_asks_for_a_long_pause_goes_on_at_once(world):
    world.fault("predict:location=europe-west4:status=429:retry_after=20s")
    with client() as regional:
        assert regional.predict(WHO).region == AMERICA
    assert [fault["struck"] for fault in world.faults()] == [1]


def test_a_region_without_the_endpoint(world):
    with RegionalClient(PROJECT, "iris", ["europe-west1", EUROPE]) as regional:
        found = regional.predict(WHO)
        assert found.region == EUROPE
        assert "deploy it there: cpr up --region europe-west1" in found.failed["europe-west1"]
    with RegionalClient(PROJECT, "nope", [EUROPE, ASIA]) as regional:
        with pytest.raises(DeployError, match='no region answered: europe-west4: .* has no endpoint "nope"'):
            regional.predict(WHO)


def test_a_public_endpoint_need_not_be_looked_up(world):
    for kind, looks in ((None, 1), ("public", 0)):
        world.calls.clear()
        with client(kind=kind) as regional:
            assert regional.predict(WHO).region == EUROPE
        assert world.asked("GetEndpoint") == looks


# How far away they are


def test_regions_are_measured(world):
    with RegionalClient(PROJECT, "iris", ["europe-west1", *REGIONS], near="probe") as regional:
        assert regional.predict(WHO).region in REGIONS
        assert regional.order[-1] == "europe-west1"  # nothing of it is there
        found = regional.probe()
    assert found["europe-west1"] == float("inf")
    assert all(0 < found[region] < 60 for region in REGIONS)


# Private endpoints, whose addresses this network knows


@pytest.fixture(scope="module")
def private(emulated):
    config = aiplatform.PrivateEndpoint.PrivateServiceConnectConfig(project_allowlist=[PROJECT])
    for region in (EUROPE, ASIA):
        aiplatform.PrivateEndpoint.create(display_name="inside", location=region, private_service_connect_config=config)
    return "inside"


GOOD = (200, b'{"predictions": [1], "deployedModelId": "7"}')


def test_one_region_alone_is_asked_again(world, private):
    busy = (503, b'{"error": {"message": "busy"}}')
    with Front(busy, busy, GOOD) as front:
        with RegionalClient(PROJECT, private, [EUROPE], overrides={EUROPE: front.override}) as regional:
            assert regional.predict([1]).predictions == [1]
    assert len(front.seen) == 3


def test_one_region_alone_slows_its_callers_down(world, private):
    with Front((429, b"slower", {"Retry-After": "0.01"}), GOOD) as front:
        with RegionalClient(PROJECT, private, [EUROPE], overrides={EUROPE: front.override}) as regional:
            assert regional.predict([1]).predictions == [1]
    assert len(front.seen) == 2


def test_a_connection_that_fails(world, private):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Front(GOOD) as front:
        overrides = {EUROPE: nobody, ASIA: front.override}
        with RegionalClient(PROJECT, private, [EUROPE, ASIA], overrides=overrides) as regional:
            found = regional.predict([1])
            assert found.region == ASIA
            assert found.failed[EUROPE].startswith("no connection: ")
            assert regional.down == (EUROPE,)
    with RegionalClient(PROJECT, private, [EUROPE], overrides={EUROPE: nobody}) as regional:
        with pytest.raises(
            DeployError, match="no region answered: europe-west4: no connection: .*could not be reached"
        ):
            regional.predict([1])


def test_a_region_that_hangs_leaves_the_next_one_time(world, private):
    ends = threading.Event()
    with Front(lambda handler: ends.wait(60)) as silent, Front(GOOD) as front:
        overrides = {EUROPE: silent.override, ASIA: front.override}
        with RegionalClient(PROJECT, private, [EUROPE, ASIA], overrides=overrides, deadline_s=4.0) as regional:
            found = regional.predict([1])
            assert (found.region, regional.down) == (ASIA, (EUROPE,))
            assert found.failed[EUROPE].startswith("504: ")
        ends.set()


def test_a_private_endpoint_without_its_address(world, private):
    with RegionalClient(PROJECT, private, [EUROPE]) as regional:
        with pytest.raises(UsageError, match="--override"):
            regional.predict([1])


# What cannot be


@pytest.mark.parametrize(
    ("regions", "near", "words"),
    [
        ([], None, "give a list"),
        ("us-central1", None, "give a list"),
        (["us-central1", "us-central1"], None, "twice"),
        (["mars-north1"], None, "no region of Vertex AI"),
        (["us-central1"], "mars", "no region of Vertex AI"),
    ],
)
def test_regions_that_cannot_be(regions, near, words):
    with pytest.raises((UsageError, ConfigError), match=words):
        RegionalClient(PROJECT, "iris", regions, near=near)


# Which region is next, by a clock of the test's


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_one_request_tries_a_region_and_the_others_pass_it_by():
    clock = Clock()
    routes = Routes(["a", "b"], cool_down_s=10.0, clock=clock)
    assert (routes.choose(), routes.choose({"a"}), routes.choose({"a", "b"})) == ("a", "b", None)
    routes.failed("a")
    assert [routes.choose() for _ in range(3)] == ["b", "b", "b"]
    clock.now += 10
    assert [routes.choose() for _ in range(3)] == ["a", "b", "b"]
    routes.failed("a")
    assert routes.choose() == "b"
    clock.now += 10
    assert routes.choose() == "a"
    routes.answered("a")
    assert [routes.choose() for _ in range(3)] == ["a", "a", "a"]


def test_where_all_are_down_the_nearest_is_asked():
    routes = Routes(["a", "b"], cool_down_s=10.0, clock=Clock())
    routes.failed("a")
    routes.failed("b")
    assert (routes.choose(), routes.choose({"a"}), routes.down) == ("a", "b", ("a", "b"))


events = st.lists(st.tuples(st.sampled_from(["failed", "answered", "later", "choose"]), st.sampled_from("abc")))


@given(events)
def test_a_request_reaches_every_region_once_whatever_went_before(events):
    clock = Clock()
    routes = Routes("abc", cool_down_s=10.0, clock=clock)
    for event, region in events:
        if event == "later":
            clock.now += 4
        elif event == "choose":
            routes.choose()
        else:
            getattr(routes, event)(region)
    tried = []
    while (region := routes.choose(tried)) is not None:
        tried.append(region)
    assert sorted(tried) == ["a", "b", "c"]
    healthy = [region for region in tried if region not in routes.down]
    assert healthy == sorted(healthy)
