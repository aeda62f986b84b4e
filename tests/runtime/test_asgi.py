"""An application of the author's own behind the kit's server: its start, its answers, its end."""

import concurrent.futures
import json
import signal
import time

import pytest

from cpr_kit.errors import StartError
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.workers.limits import Limits


def app(serve, name, **environment):
    return serve(CPR_MODEL_APP=f"apps:{name}", **environment)


def test_an_application_answers_itself_once_its_startup_is_over(serve):
    server = app(serve, "doubles").wait_for(503)
    early = server.predict({"instances": [1]})
    assert (early.status_code, early.headers["retry-after"]) == (503, "1")
    assert early.json()["error"]["message"] == "the application is still starting"

    server.ready()
    assert server.health().json() == {"status": "healthy"}
    assert server.predict({"instances": [1, 2]}).json() == {"predictions": [2, 4]}
    assert server.predict({"fail": True}).json() == {"detail": "no tea"}


def test_the_log_is_json_and_names_the_request(serve):
    server = app(serve, "doubles", CPR_SERVE_LOG_FORMAT="json").ready()
    server.predict({"instances": [1]}, headers={"x-request-id": "abc-1"})
    assert server.predict({"break": True}).status_code == 500
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    lines = [line for line in server.stdout().splitlines() if line.startswith("{")]
    told = [json.loads(line) for line in lines]
    ready = [line["message"] for line in told if "is ready" in line["message"]]
    assert len(ready) == 1
    assert "POST /predict, GET /health on port" in ready[0]
    assert [line["request_id"] for line in told if line["message"] == "asked"][0] == "abc-1"
    errors = [json.loads(line)["message"] for line in server.stderr().splitlines()]
    assert any("secret words" in message for message in errors)
    assert "closed" in server.stdout()


def test_a_stop_drains(serve):
    server = app(serve, "doubles").ready()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(server.predict, {"instances": [3], "seconds": 1.5})
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(503)
        assert slow.result().json() == {"predictions": [6]}
    assert server.process.wait(20) == 0
    assert server.stdout().splitlines()[-1] == "closed"


@pytest.mark.parametrize("name", ["make", "wrapped"])
def test_factories_and_wrapped_applications_serve(serve, name):
    assert app(serve, name).ready().predict({"instances": [1]}).status_code == 200


def test_an_application_without_lifespan_and_routes_serves(serve):
    server = app(serve, "plain").ready()
    assert server.predict({}).json() == {"path": "/predict"}


def test_routes_come_from_the_environment(serve):
    server = app(serve, "plain", AIP_PREDICT_ROUTE="/v1/m:predict").ready()
    assert server.session.post(f"{server.url}/v1/m:predict").json() == {"path": "/v1/m:predict"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "no_predict",
            "apps:no_predict has no route POST /predict | add it, or say which is yours in cpr.toml: [image] predict_route; its routes are GET /health",
        ),
        ("only_get", "apps:only_get answers /predict, but not to POST | add it, or say which is yours"),
        ("cannot_start", "the startup of apps:cannot_start failed: RuntimeError: no model there (apps.py line "),
        ("fails", "apps:fails could not make the application: RuntimeError: no model there (apps.py line "),
        ("wsgi", "apps:wsgi is a WSGI application, and not an ASGI one: its type is function | wrap it"),
        ("number", "apps:number is no ASGI application: its type is int | name one"),
        ("Klass", "apps:Klass is no ASGI application: its type is type"),
        ("missing", 'apps.py has no "missing" | it has: '),
    ],
)
def test_a_start_that_fails_ends_with_its_reason(serve, name, line):
    code, last = app(serve, name).end()
    assert code == 1
    assert f"cannot start: {line}" in last


def test_a_health_route_that_is_missing_is_told_too(serve):
    code, last = app(serve, "doubles", AIP_HEALTH_ROUTE="/ping").end()
    assert (code, "apps:doubles has no route GET /ping | add it" in last) == (1, True)


def test_several_workers_when_asked_for(serve):
    server = app(serve, "tells_its_process", VERTEX_CPR_WEB_CONCURRENCY="2").ready()
    seen, deadline = set(), time.monotonic() + 30
    while len(seen) < 2 and time.monotonic() < deadline:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asked = pool.map(lambda _: server.predict(headers={"connection": "close"}).json()["process"], range(8))
        seen |= set(asked)
    assert len(seen) == 2


def test_one_worker_unless_more_are_asked_for():
    two = Limits(workers=2)
    assert two.for_application({}, 60.0).workers == 1
    assert two.for_application({"VERTEX_CPR_WORKERS_PER_CORE": "1"}, 60.0).workers == 2
    assert two.for_application({}, 60.0).heartbeat == 90.0


def test_the_limits_of_the_kits_server_hold(serve):
    server = app(serve, "doubles", CPR_SERVE_MAX_BODY="1000").ready()
    assert server.predict(data=b"x" * 2000).status_code == 413


@pytest.mark.parametrize("text", ["apps", "apps:", ":app"])
def test_a_reference_that_is_none_is_refused(text):
    with pytest.raises(StartError, match="CPR_MODEL_APP"):
        Settings.from_environ({"CPR_MODEL_APP": text})


def test_one_thing_is_served():
    with pytest.raises(StartError, match="CPR_MODEL_APP and PREDICTOR_MODULE are both set"):
        Settings.from_environ({"CPR_MODEL_APP": "a:b", "PREDICTOR_MODULE": "a", "PREDICTOR_CLASS": "B"})


def test_an_application_that_gives_up_ends_the_start_with_its_line(serve):
    server = app(serve, "gives_up")
    assert server.process.wait(60) == 1
    assert (
        "could not make the application: SystemExit: DB_URL is not set (apps.py line"
        in server.stderr().splitlines()[-1]
    )


def test_what_stands_around_an_application_may_answer_for_it(serve):
    server = app(serve, "health_around").ready()
    assert server.predict({"instances": [2]}).json() == {"predictions": [4]}


def test_a_stop_while_the_application_is_imported_ends_at_once(serve):
    server = serve(CPR_MODEL_APP="imports_slowly:app").wait_for(503)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    assert time.monotonic() - began < 25  # it would have slept for 60 s
