"""What deployed models' containers write is read as entries of Cloud Logging, by its own REST API."""

import json

import google.auth
import pytest
from emu_control import LOCATION, MACHINE, emulator, upload  # noqa: F401 - a fixture
from google.auth.transport.requests import AuthorizedSession
from google.cloud import aiplatform

from cpr_kit.emulator.journal import Journal, Source
from cpr_kit.emulator.program import emulate
from cpr_kit.emulator.settings import Settings
from cpr_kit.engine.choose import choose

PROJECT = "logged-project"
URL = "https://logging.googleapis.com/v2/entries:list"
RAW = {"Content-Type": "application/json"}
OF_ENDPOINTS = 'resource.type="aiplatform.googleapis.com/Endpoint"'
LINES = [
    "a plain line",
    "2026-01-31 12:00:00,123 WARNING the server's own plain line",
    json.dumps(
        {
            "severity": "ERROR", "message": "it broke", "time": "2026-01-31T12:00:00.000001Z", "request_id": "7",
            "logging.googleapis.com/labels": {"pid": "1"},
        }
    ),
    json.dumps({"message": "no severity"}),
    '{"half an object',
]  # fmt: skip


@pytest.fixture(scope="module")
def session(emulator):
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    with AuthorizedSession(credentials) as made:
        yield made


@pytest.fixture(scope="module")
def deployed(emulator):
    """An endpoint whose container has said LINES, and one of another name that has said nothing but that it serves."""
    aiplatform.init(project=PROJECT, location=LOCATION, api_transport="rest")
    model = upload()
    made = [aiplatform.Endpoint.create(display_name=name) for name in ("loud", "quiet")]
    for endpoint in made:
        endpoint.deploy(model, machine_type=MACHINE)
    body = json.dumps({"instances": [], "do": "say", "lines": LINES}).encode()
    assert made[0].raw_predict(body=body, headers=RAW).status_code == 200
    return made


def asked(session, **body):
    return session.post(URL, json={"resourceNames": [f"projects/{PROJECT}"], **body}, timeout=30)


def entries(session, *parts, **body):
    answer = asked(session, filter=" AND ".join(parts), **body)
    assert answer.status_code == 200, answer.text
    return answer.json().get("entries", [])


def of(endpoint):
    return f'resource.labels.endpoint_id="{endpoint.name}"'


@pytest.fixture
def said(session, deployed):
    """The entries of LINES, once the last of them is there: lines arrive beside the answer to the request."""
    while len(found := entries(session, of(deployed[0]))) < len(LINES) + 1:
        pass
    assert len(found) == len(LINES) + 1
    return {str(each.get("textPayload", each.get("jsonPayload", {}).get("message"))): each for each in found}


def test_what_an_entry_holds(session, deployed, said):
    plain, own, broke, none = (said[text] for text in (LINES[0], LINES[1], "it broke", "no severity"))
    assert plain["resource"] == {
        "type": "aiplatform.googleapis.com/Endpoint",
        "labels": {"resource_container": PROJECT, "location": LOCATION, "endpoint_id": deployed[0].name},
    }
    assert plain["labels"] == {"deployed_model_id": deployed[0].list_models()[0].id, "replica_id": "0"}
    assert [each["severity"] for each in (plain, own, broke, none)] == ["DEFAULT", "WARNING", "ERROR", "DEFAULT"]
    assert broke["jsonPayload"] == {"message": "it broke", "request_id": "7"}
    assert broke["timestamp"] == "2026-01-31T12:00:00.000001000Z"
    assert broke["labels"]["pid"] == "1"
    assert said[LINES[4]]["textPayload"] == LINES[4]
    assert len({each["insertId"] for each in said.values()}) == len(said)


def test_filters(session, deployed, said):
    identity = deployed[0].list_models()[0].id

    def found(*parts):
        return {
            str(each.get("textPayload", each.get("jsonPayload", {}).get("message")))
            for each in entries(session, *parts)
        }

    here = of(deployed[0])
    assert found(OF_ENDPOINTS, here) == set(said)
    assert found(here, "severity>=ERROR") == {"it broke"}
    assert found(here, "severity>=WARNING") == {"it broke", LINES[1]}
    assert found(here, "severity<WARNING") == set(said) - {"it broke", LINES[1]}
    assert found(here, f'labels.deployed_model_id="{identity}"', 'timestamp<"2026-02-01T00:00:00Z"') == {"it broke"}
    assert found(of(deployed[1])) == {"serving"}
    assert found(f"({of(deployed[0])} OR {of(deployed[1])})", 'timestamp>="2026-02-01T00:00:00Z"') == (
        set(said) - {"it broke"}
    )
    for nothing in ('resource.type="gce_instance"', 'resource.labels.location="us-east1"', 'labels.replica_id="1"'):
        assert not found(nothing)
    assert not entries(session, resourceNames=["projects/another-project"])


def test_pages_in_both_orders(session, deployed, said):
    for order, reverse in (("timestamp asc", False), ("timestamp desc", True)):
        pages, token = [], ""
        while True:
            answer = asked(session, filter=of(deployed[0]), orderBy=order, pageSize=2, pageToken=token).json()
            pages += answer["entries"]
            token = answer.get("nextPageToken")
            if not token:
                break
        assert len(pages) == len(said)
        times = [each["timestamp"] for each in pages]
        assert times == sorted(times, reverse=reverse)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"resourceNames": []}, "list of projects"),
        ({"resourceNames": ["organizations/1"]}, "list of projects"),
        ({"orderBy": "severity"}, "orderBy"),
        ({"pageSize": -1}, "pageSize"),
        ({"pageToken": "x"}, "pageToken"),
        ({"filter": "severity>=LOUD"}, "EMERGENCY"),
        ({"filter": 'textPayload:"x"'}, "cannot be filtered by"),
    ],
)
def test_what_is_no_request(session, body, words):
    answer = asked(session, **body)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert words in answer.json()["error"]["message"]


def test_logging_that_is_switched_off_and_the_log_of_what_is_gone(session, emulator):
    aiplatform.init(project=PROJECT, location=LOCATION, api_transport="rest")
    model, endpoint = upload(), aiplatform.Endpoint.create(display_name="e")
    endpoint.deploy(model, machine_type=MACHINE, disable_container_logging=True)
    endpoint.deploy(model, machine_type=MACHINE, traffic_percentage=50)
    while not (heard := {each["labels"]["deployed_model_id"] for each in entries(session, of(endpoint))}):
        pass
    silent = next(each.id for each in endpoint.list_models() if each.id not in heard)
    assert len(heard) == 1
    assert endpoint.gca_resource.deployed_models[0].id == silent
    endpoint.undeploy_all()
    endpoint.delete()
    assert {each["labels"]["deployed_model_id"] for each in entries(session, of(endpoint))} == heard


def test_a_caller_who_may_not_read_logs():
    settings = Settings(denied_permissions=("logging.logEntries.list",))
    with emulate(engine=choose("process").engine, settings=settings):
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        with AuthorizedSession(credentials) as session:
            answer = asked(session)
    assert (answer.status_code, answer.json()["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_the_journal_keeps_the_newest():
    journal, source = Journal(2), Source(project="1", location="l", endpoint="e", deployed_model="1")
    for text in ("a", "b", "c"):
        journal.add(source, 0, text)
    assert [each.payload for each in journal.entries()] == ["b", "c"]


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"severity": 7, "time": [], "logging.googleapis.com/labels": 3}'])
def test_no_line_breaks_it(line):
    journal = Journal()
    journal.add(Source(project="1", location="l", endpoint="e", deployed_model="1"), 0, line)
    assert journal.entries()[0].severity == "DEFAULT"
