"""The model server as a container starts it: a process, its environment, its answers, its end."""

import concurrent.futures
import signal
import socket
import subprocess
import sys
import time

import pytest


def test_answers_predictions(serve):
    response = serve("answers:Doubles").ready().predict({"instances": [1, 2.5]})

    assert (response.status_code, response.json()) == (200, {"predictions": [2, 5.0]})
    assert response.headers["content-type"] == "application/json"


def test_health_is_503_until_the_model_is_loaded_and_200_after(serve):
    server = serve("answers:LoadsForOneSecond").wait_for(503)

    early = server.predict({"instances": [1]})
    assert (early.status_code, early.headers["retry-after"]) == (503, "1")
    server.ready()
    assert server.health().json() == {}
    assert server.predict({"instances": [1]}).status_code == 200


def test_routes_and_storage_uri_come_from_the_environment(serve, tmp_path):
    server = serve("answers:Doubles", AIP_PREDICT_ROUTE="/v1/e/1:predict", AIP_HEALTH_ROUTE="/v1/e/1")
    server.wait_for(404)
    while server.session.get(f"{server.url}/v1/e/1").status_code == 503:
        time.sleep(0.02)

    response = server.session.post(f"{server.url}/v1/e/1:predict", json={"instances": [1]})
    assert response.json() == {"predictions": [2]}


@pytest.mark.parametrize("predictor", ["answers:Sleeps", "answers:Spins"])
def test_health_answers_while_a_predictor_works(serve, predictor):
    server = serve(predictor).ready()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(server.predict, {"instances": [1], "seconds": 2})
        time.sleep(0.2)
        assert server.health().status_code == 200
        assert not slow.done()
        assert slow.result().status_code == 200


def test_a_sync_handler_does_not_block_health(serve):
    server = serve(handler="answers:SyncHandler").ready()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(server.predict, params={"seconds": 2})
        time.sleep(0.2)
        assert server.health().status_code == 200
        assert not slow.done()
        assert slow.result().text == "sync"


def test_sync_predictors_run_in_one_thread_one_at_a_time(serve):
    server = serve("answers:Sleeps").ready()

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(server.predict, [{"instances": [1], "seconds": 0.2}] * 4))

    assert {str(answer.json()) for answer in answers} == {str({"predictions": ["model"]})}
    assert time.monotonic() - began >= 0.8


def test_async_predictors_interleave(serve):
    server = serve("answers:PredictsAsync").ready()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = pool.submit(server.predict, {"instances": ["slow"], "seconds": 2})
        time.sleep(0.2)
        assert server.predict({"instances": ["fast"]}).json() == {"predictions": ["fast"]}
        assert not slow.done()
        assert slow.result().json() == {"predictions": ["slow"]}


def test_numpy_values_are_json(serve):
    response = serve("answers:ReturnsNumpy").ready().predict({})

    assert response.json() == {"predictions": [1.5, 2, True, [[0, 3], [1, 4], [2, 5]], ["a"]], "3": [None]}


@pytest.mark.parametrize(
    ("handler", "answer", "content_type"),
    [
        ("answers:SyncHandler", "sync", "text/plain; charset=utf-8"),
        ("answers:ReadsTheBody", '{"predictions": [3]}', "application/json"),
        ("answers:Streams", "0\n1\n2\n", "text/plain; charset=utf-8"),
    ],
)
def test_handlers_answer_sync_async_and_streamed(serve, handler, answer, content_type):
    response = serve(handler=handler).ready().predict(data=b"abc")

    assert (response.text, response.headers["content-type"]) == (answer, content_type)


def test_a_handlers_serializer_replaces_json(serve):
    response = serve("answers:Doubles", handler="answers:TextHandler").ready().predict(data="1 2")

    assert (response.text, response.headers["content-type"]) == ("2.0 4.0", "text/plain; charset=utf-8")


def test_background_tasks_run_after_the_answer(serve):
    server = serve(handler="answers:RunsABackgroundTask").ready()

    assert server.predict().text == "False"
    deadline = time.monotonic() + 10
    while server.predict().text == "False":
        assert time.monotonic() < deadline


def test_a_stream_that_breaks_ends_visibly(serve):
    server = serve(handler="fails:ReturnsNoResponse").ready()
    server = serve(handler="answers:BreaksMidway").ready()

    with pytest.raises(Exception, match="(?i)incomplete|prematurely|chunk"):
        server.predict()
    assert server.health().status_code == 200


def test_a_missing_key_is_the_callers_mistake_and_still_a_key_error(serve):
    response = serve("answers:Doubles").ready().predict({"rows": []})
    assert (response.status_code, response.json()["error"]["message"]) == (400, 'the request has no "instances"')

    tolerant = serve("answers:ToleratesNoParameters").ready()
    assert tolerant.predict({"instances": [1]}).json() == {"predictions": ["none"]}


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b'{"instances": [1', {}, 400, "not JSON"),
        (b"", {}, 400, "empty"),
        (b'{"instances": [NaN]}', {}, 400, "not JSON"),
        (b'"\xff"', {}, 400, "not UTF-8"),
        (b"{}", {"Content-Type": "text/html"}, 415, "text/html"),
        (b"{}", {"Content-Type": "image/png"}, 415, "image/png"),
        (b"{}", {"Content-Type": None}, 415, "no Content-Type"),
        (b'{"instances": []}', {"Accept": "text/html"}, 406, "text/html"),
    ],
)
def test_client_mistakes_are_4xx_with_a_reason(serve, body, headers, status, reason):
    server = serve("answers:Doubles").ready()

    response = server.predict(data=body, headers={"Content-Type": "application/json", **headers})

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["status"]) == (status, status, "INVALID_ARGUMENT")
    assert reason in error["message"]
    assert server.predict({"instances": [1]}).status_code == 200


@pytest.mark.parametrize("content_type", ["Application/JSON", "application/json; charset=utf-8"])
def test_content_types_are_compared_as_http_says(serve, content_type):
    server = serve("answers:Doubles").ready()

    response = server.predict(data=b'{"instances": [1]}', headers={"Content-Type": content_type, "Accept": "*/*"})

    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


def test_wrong_routes_and_methods(serve):
    server = serve("answers:Doubles").ready()

    wrong = server.session.get(f"{server.url}/predict")
    assert (wrong.status_code, wrong.headers["allow"], wrong.json()["error"]["code"]) == (405, "POST", 405)
    assert server.session.post(f"{server.url}/health").status_code == 405
    nothing = server.session.get(f"{server.url}/nothing")
    assert (nothing.status_code, nothing.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_server_faults_are_logged_once_and_told_to_nobody(serve):
    server = serve("fails:OnSomeRequests").ready()

    for how in ("secret", "exit", "no json"):
        response = server.predict({"instances": [how]})
        assert (response.status_code, response.json()["error"]["status"]) == (500, "INTERNAL")
        assert "hunter2" not in response.text
    assert server.stderr().count("RuntimeError: db password is hunter2") == 1
    assert "no JSON form" in server.stderr()
    assert server.predict({"instances": ["fine"]}).json() == {"predictions": ["fine"]}


def test_a_handler_that_returns_no_response_is_a_server_fault_that_says_so(serve):
    server = serve(handler="fails:ReturnsNoResponse").ready()

    assert server.predict().status_code == 500
    assert "ReturnsNoResponse.handle returned a dict; return a Response" in server.stderr()


def test_errors_that_the_author_raises_keep_their_status(serve):
    server = serve("fails:OnSomeRequests").ready()

    response = server.predict({"instances": ["request error"]})
    assert (response.status_code, response.json()["error"]["message"]) == (422, "instance 0 is odd")
    response = server.predict({"instances": ["http exception"]})
    assert (response.status_code, response.headers["x-pot"]) == (418, "1")
    assert response.json()["error"]["message"] == '{"tea":"pot"}'
    assert server.stderr() == ""


@pytest.mark.parametrize(
    ("predictor", "cause", "remedy"),
    [
        (
            "fails:LoadRaises",
            "LoadRaises could not be loaded: ValueError: the weights have 3 layers (fails.py line 3",
            "",
        ),
        ("fails:LoadMissesFile", "FileNotFoundError", "artifacts"),
        ("fails:LoadExits", "LoadExits could not be loaded: SystemExit: no GPU", ""),
        ("fails:LoadRaise", 'fails.py has no class "LoadRaise"', "LoadRaises"),
        ("fayls:LoadRaises", 'module "fayls" does not exist', "fails.py"),
        ("imports_missing_module:X", 'imports_missing_module.py line 1 imports "no_such_library"', "requirements.txt"),
        ("syntax_error:X", "syntax_error.py line 1", ""),
        (None, "neither PREDICTOR_MODULE", "cpr.toml"),
    ],
)
def test_a_start_that_fails_ends_with_cause_and_remedy_in_the_last_line(serve, predictor, cause, remedy):
    server = serve(predictor)

    code, last = server.end()

    assert code == 1
    assert "cannot start: " in last
    assert cause in last
    assert remedy in last.partition(" | ")[2]


@pytest.mark.parametrize(
    ("environment", "cause"),
    [
        ({"AIP_HTTP_PORT": "eighty"}, 'AIP_HTTP_PORT is "eighty"'),
        ({"AIP_HTTP_PORT": "70000"}, 'AIP_HTTP_PORT is "70000"'),
        ({"AIP_PREDICT_ROUTE": "predict"}, 'AIP_PREDICT_ROUTE is "predict"'),
        ({"AIP_PREDICT_ROUTE": "/health"}, "are both /health"),
        ({"CPR_MODEL_TRUSTED": "perhaps"}, 'CPR_MODEL_TRUSTED is "perhaps"'),
        ({"PREPROCESSOR_MODULE": "x"}, "PREPROCESSOR_MODULE is set and PREPROCESSOR_CLASS is not"),
    ],
)
def test_a_bad_environment_ends_the_start_naming_variable_and_value(serve, environment, cause):
    code, last = serve("answers:Doubles", **environment).end()

    assert code == 1
    assert cause in last


def test_a_port_in_use_ends_the_start(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, last = serve("answers:Doubles", port=taken.getsockname()[1]).end()

    assert code == 1
    assert "cannot listen on 127.0.0.1" in last


def test_stderr_carries_errors_only(serve):
    server = serve("answers:Doubles").ready()
    server.predict({"instances": [1]})
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(10) == 0
    assert server.stderr() == ""
    assert "the model is ready" in server.stdout()


def test_sigterm_lets_an_accepted_request_finish(serve):
    server = serve("answers:Sleeps").ready()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(server.predict, {"instances": [1], "seconds": 1})
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert slow.result().status_code == 200
    assert server.process.wait(10) == 0


def test_sigterm_during_load_ends_at_once(serve):
    server = serve("answers:LoadsForOneSecond").wait_for(503)
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(5) == 0


def test_an_entry_point_of_ones_own_serves_a_handler(serve):
    server = serve(script="entrypoint.py", AIP_STORAGE_URI="")
    server.ready()

    assert server.predict({"instances": [1, 2.5]}).json() == {"predictions": [2, 5.0]}
    assert server.predict({"rows": []}).status_code == 400
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    assert server.stderr() == ""
    assert "the model is ready" in server.stdout()


def test_an_entry_point_of_ones_own_has_port_routes_and_its_own_log(serve):
    server = serve(
        script="entrypoint.py", AIP_STORAGE_URI="", AIP_PREDICT_ROUTE="/p", AIP_HEALTH_ROUTE="/h", OWN_LOG="yes"
    )
    server.wait_for(404)
    while server.session.get(f"{server.url}/h").status_code == 503:
        time.sleep(0.02)

    assert server.session.get(f"{server.url}/h").status_code == 200
    assert server.session.post(f"{server.url}/p", json={"instances": [1]}).json() == {"predictions": [2]}
    assert f"own: {server.port} /p /h" in server.stderr()
    assert "own: the model is ready" in server.stderr()
    assert server.stdout() == ""


def test_a_stream_ends_when_its_client_leaves(serve):
    server = serve(handler="answers:StreamsForEver").ready()
    with server.session.post(f"{server.url}/predict", stream=True, timeout=10) as response:
        assert next(response.iter_lines()) == b"row"
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(20) == 0


def test_logging_of_the_authors_own_does_not_hide_the_reason(serve):
    code, last = serve("fails:LoadRaisesBehindItsOwnLogging").end()
    assert (code, "ValueError: no weights" in last) == (1, True)


def test_a_failed_start_ends_without_a_standard_output():
    code = "import sys; sys.stdout = None; from cpr_kit.runtime.server import _end; _end(ValueError('x'))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30).returncode == 1
