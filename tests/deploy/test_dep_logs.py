"""Entries of Cloud Logging: asked for by the real client's session, from containers that have written them."""

import datetime as dt
import json
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "emulator"))

from emu_control import LOCATION, MACHINE, emulator, upload  # noqa: F401 - a fixture
from google.cloud import aiplatform

from cpr_kit.deploy import render
from cpr_kit.deploy.vertex import logs
from cpr_kit.deploy.vertex.calls import Caller, Patience
from cpr_kit.deploy.vertex.logs import Entry, Log, Query, ago
from cpr_kit.deploy.resources import Endpoint
from cpr_kit.emulator.program import emulate
from cpr_kit.emulator.settings import Settings
from cpr_kit.engine.choose import choose
from cpr_kit.errors import DeployError, UsageError

PROJECT = "dep-logged"
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc)
EVER = Query(since=dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc))


@pytest.fixture(scope="module")
def endpoint(emulator):  # noqa: F811
    aiplatform.init(project=PROJECT, location=LOCATION, api_transport="rest")
    made = aiplatform.Endpoint.create(display_name="loud")
    made.deploy(upload(), machine_type=MACHINE)
    return made


def say(endpoint, *lines):
    """Once this is back, the lines are in the log: others that were said after them may not be."""
    body = json.dumps({"instances": [], "do": "say", "lines": lines}).encode()
    assert endpoint.raw_predict(body=body, headers={"Content-Type": "application/json"}).status_code == 200


def log_of(endpoint, **options):
    return Log(PROJECT, {LOCATION: [endpoint.name]}, **options)


def told(log, query, *wanted):
    """The messages, once all that are wanted are among them: a container's lines reach the log a little later."""
    stop, messages = threading.Event(), []
    timer = threading.Timer(60, stop.set)
    timer.start()
    try:
        for entry in log.follow(query, stop, poll_s=0.05):
            messages.append(entry.message)
            if set(wanted) <= set(messages):
                stop.set()
    finally:
        timer.cancel()
    assert set(wanted) <= set(messages), messages
    return messages


def line(message, severity="INFO", time="2026-01-01T10:00:00.123456789Z", **fields):
    return json.dumps({"severity": severity, "message": message, "time": time, **fields})


def test_an_object_s_message_severity_time_and_fields_are_told_apart(endpoint):
    say(endpoint, line("it broke", "ERROR", request_id="7", seconds=0.5, nested={"a": 1}))
    told(log_of(endpoint), EVER, "it broke")
    (entry,) = [each for each in log_of(endpoint).entries(EVER) if each.message == "it broke"]

    assert entry.time == dt.datetime(2026, 1, 1, 10, 0, 0, 123456, tzinfo=dt.timezone.utc)
    assert (entry.severity, entry.region, entry.endpoint) == ("ERROR", LOCATION, endpoint.name)
    assert entry.fields == {"request_id": "7", "seconds": 0.5, "nested": {"a": 1}}
    where = f"{entry.deployed_model}/{entry.replica}"
    shown = f"2026-01-01 10:00:00.123 ERROR    {where} it broke  request_id=7 seconds=0.5"
    assert render.entry(entry) == shown
    assert render.entry(entry, with_region=True) == shown.replace(where, f"{LOCATION} {where}")
    assert json.loads(json.dumps(entry.to_json()))["time"] == "2026-01-01T10:00:00.123456Z"


def test_entries_come_in_the_order_of_their_times_over_many_pages(endpoint, monkeypatch):
    monkeypatch.setattr(logs, "_PAGE", 2)
    lines = [f"page {number}" for number in range(7)]
    say(endpoint, *(line(text, time=f"2026-01-01T1{7 - n}:00:00Z") for n, text in enumerate(lines)))
    told(log_of(endpoint), EVER, *lines)
    found = [each.message for each in log_of(endpoint).entries(EVER) if each.message.startswith("page")]
    assert found == lines[::-1]


def test_what_is_asked_for_is_all_that_comes(endpoint):
    say(endpoint, line("old", time="2025-01-01T00:00:00Z"), line("new", "WARNING", time="2027-01-01T00:00:00Z"))
    told(log_of(endpoint), EVER, "old", "new")
    log = log_of(endpoint)
    (deployed,) = endpoint.list_models()

    def messages(**fields):
        query = Query(**{"since": EVER.since, **fields})
        return {each.message for each in log.entries(query)} & {"old", "new"}

    assert messages() == {"old", "new"}
    assert messages(since=ago("2026-12-31T00:00:00Z")) == {"new"}
    assert messages(severity="WARNING") == {"new"}
    assert messages(severity="ERROR") == set()
    assert messages(deployed_model=deployed.id) == {"old", "new"}
    assert messages(deployed_model="1") == set()
    assert list(Log(PROJECT, {LOCATION: ["another"]}).entries(EVER)) == []
    assert list(Log(PROJECT, {"europe-west4": [endpoint.name]}).entries(EVER)) == []
    assert list(Log(PROJECT, {LOCATION: []}).entries(EVER)) == []
    several = Log(PROJECT, {"europe-west4": ["another"], LOCATION: [endpoint.name]})
    assert {"old", "new"} <= {each.message for each in several.entries(EVER)}


def test_the_last_ones_are_the_newest_with_the_oldest_first(endpoint):
    times = {"third": "2028-01-01T00:00:03Z", "first": "2028-01-01T00:00:01Z", "second": "2028-01-01T00:00:02Z"}
    say(endpoint, *(line(text, time=time) for text, time in times.items()))
    told(log_of(endpoint), EVER, *times)
    assert [each.message for each in log_of(endpoint).last(EVER, 2)] == ["second", "third"]


def test_following_tells_each_entry_once_also_one_that_comes_late(endpoint):
    """What is written later with a time before the newest is told too, as entries that become readable late are."""
    log, stop, seen = log_of(endpoint), threading.Event(), []
    timer = threading.Timer(60, stop.set)
    timer.start()
    query = Query(since=dt.datetime(2029, 1, 1, tzinfo=dt.timezone.utc))
    say(endpoint, line("newest", time="2029-01-01T00:00:20Z"))
    for entry in log.follow(query, stop, poll_s=0.05):
        seen.append(entry.message)
        if entry.message == "newest":
            say(endpoint, line("late", time="2029-01-01T00:00:10Z"))
        if entry.message == "late":
            say(endpoint, line("last", time="2029-01-01T00:00:30Z"))
        if entry.message == "last":
            stop.set()
    timer.cancel()
    assert seen == ["newest", "late", "last"]


def test_the_tail_of_a_deployed_model_that_failed(endpoint):
    say(endpoint, line("one\ntwo", time="2099-01-01T00:00:00Z"), line("three", time="2099-01-01T00:00:01Z"))
    (deployed,) = endpoint.list_models()
    told(log_of(endpoint), EVER, "one\ntwo", "three")
    name = f"projects/{PROJECT}/locations/{LOCATION}/endpoints/{endpoint.name}"
    there = Endpoint(id=endpoint.name, name=name, display_name="loud", kind="public")

    assert logs.tail(PROJECT, there, deployed.id, 2) == ["two", "three"]


def test_a_reader_without_the_right_is_told_which_it_is(tmp_path, emulator):  # noqa: F811
    settings = Settings(denied_permissions=("logging.logEntries.list",))
    with (
        emulate(engine=choose("process").engine, settings=settings),
        pytest.raises(DeployError, match=r"Cloud Logging refused.*logEntries\.list.*roles/logging\.viewer"),
    ):
        list(Log(PROJECT, {LOCATION: ["e"]}, Caller(Patience(total_s=2.0))).entries(EVER))


@pytest.mark.parametrize(
    ("text", "before"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)],
)
def test_since_is_a_time_ago(text, before):
    assert ago(text, NOW) == NOW - dt.timedelta(seconds=before)


def test_since_may_be_a_time():
    assert ago("2026-01-02T00:00:00Z") == NOW
    assert ago("2026-01-02T00:00:00.5+00:00") == NOW + dt.timedelta(seconds=0.5)


@pytest.mark.parametrize("text", ["", "10", "ten", "-5m", "10 m", "2026-13-01T00:00:00Z", "2026-01-01", "999999999d"])
def test_since_that_is_no_time_says_how_one_is_written(text):
    with pytest.raises(UsageError, match="such as"):
        ago(text)


@pytest.mark.parametrize("fields", [{"severity": "LOUD"}, {"deployed_model": 'x" OR severity>"DEFAULT'}])
def test_what_no_entry_can_have_is_refused(fields):
    with pytest.raises(UsageError):
        Query(since=NOW, **fields)


def test_a_payload_without_a_message_is_shown_whole():
    raw = {"jsonPayload": {"b": 1, "a": [2]}, "timestamp": "2026-01-01T00:00:00Z"}
    entry = logs._entry(raw)

    assert isinstance(entry, Entry)
    assert (entry.message, entry.fields, entry.severity) == ('{"b": 1, "a": [2]}', {}, "DEFAULT")
    assert logs._entry({"timestamp": "2026-01-01T00:00:00Z", "textPayload": "text\n"}).message == "text"
