"""Version folders: the newest serves, and a newer one takes its place."""

import threading

import pytest

from cpr_kit.errors import StartError
from cpr_kit.model_server.servable import SAVED_MODEL, Servable
from cpr_kit.model_server.status import ServingError
from cpr_kit.model_server.versions import Model


@pytest.fixture
def base(tmp_path):
    return tmp_path / "model"


def put(base, *names):
    for name in names:
        (base / name).mkdir(parents=True)


class Loads:
    """Stands where TensorFlow does; version 9 cannot be loaded, and version 5 not the first time."""

    def __init__(self):
        self.versions = []

    def __call__(self, folder, version):
        self.versions.append(version)
        if version == 9 or (version == 5 and self.versions.count(5) == 1):
            raise StartError(f"{folder.name} is broken", "mend it")
        return Servable(version, {}, {})


@pytest.fixture
def loads():
    return Loads()


@pytest.fixture
def model(base, loads):
    made = Model("m", str(base), loads, interval_s=0.01)
    yield made
    made.close()


def test_the_highest_number_serves(base, model):
    put(base, "2", "10", "latest", "v3")
    model.start()
    assert model.find("m").version == model.find("m", 10).version == 10
    [state] = model.states("m")
    assert (state.version, state.state, state.error) == (10, "AVAILABLE", "")


@pytest.mark.parametrize(
    ("name", "version", "found", "status"),
    [
        ("n", None, "Servable not found for request: Latest(n)", "Could not find any versions of model n"),
        ("m", 2, "Servable not found for request: Specific(m, 2)", "Could not find version 2 of model m"),
    ],
)
def test_what_does_not_serve(base, model, name, version, found, status):
    put(base, "10")
    model.start()
    for ask, said in ((model.find, found), (model.states, status)):
        with pytest.raises(ServingError) as raised:
            ask(name, version)
        assert (str(raised.value), raised.value.status_code) == (said, 404)


def until(condition):
    while not condition():
        threading.Event().wait(0.002)


def test_a_newer_version_takes_the_place_of_the_one_that_serves(base, model, loads):
    put(base, "1")
    model.start()
    model.follow()
    put(base, "2")
    until(lambda: len(model.states("m")) == 2 and model.states("m", 1)[0].state == "END")
    assert model.find("m").version == 2
    assert [state.state for state in model.states("m")] == ["AVAILABLE", "END"]
    with pytest.raises(ServingError):
        model.find("m", 1)
    assert loads.versions == [1, 2]


def test_a_newer_version_that_is_broken_leaves_the_one_before(base, model, loads):
    put(base, "1")
    model.start()
    model.follow()
    put(base, "9")
    until(lambda: len(model.states("m")) == 2 and model.states("m", 9)[0].state == "END")
    assert model.find("m").version == 1
    assert "9 is broken" in model.states("m", 9)[0].error
    until(lambda: loads.versions.count(9) == 6)
    put(base, "10")
    until(lambda: 10 in loads.versions)
    assert loads.versions == [1, *[9] * 6, 10]


def test_a_version_whose_files_are_still_being_copied_is_tried_again(base, model, loads):
    put(base, "1")
    model.start()
    model.follow()
    put(base, "5")
    until(lambda: model.find("m").version == 5)
    assert model.states("m", 5)[0].error == ""


def test_a_start_waits_for_a_version_to_come(base, model, loads):
    starting = threading.Thread(target=model.start)
    starting.start()
    put(base, "3")
    starting.join(60)
    assert model.find("m").version == 3


@pytest.mark.parametrize("interval_s", [0, 31540000])
def test_a_start_ends_where_no_version_will_be_looked_for(base, loads, interval_s):
    put(base, "saved")
    with pytest.raises(StartError, match=r"Did you forget to name your leaf directory as a number \(eg. '/1/'\)\?"):
        Model("m", str(base), loads, interval_s=interval_s).start()


def test_a_first_version_that_is_broken_ends_the_start(base, model):
    put(base, "9")
    with pytest.raises(StartError, match="9 is broken"):
        model.start()


def test_a_model_without_a_version_serves_where_that_is_asked_for(base, loads):
    put(base, "variables")
    (base / SAVED_MODEL).touch()
    made = Model("m", str(base), loads, interval_s=0, unversioned=True)
    made.start()
    assert made.find("m").version == 1
    with pytest.raises(StartError):
        Model("m", str(base), loads, interval_s=0).start()
