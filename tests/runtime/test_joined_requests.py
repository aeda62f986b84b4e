"""Micro-batching through the real server."""

import concurrent.futures
import time

import pytest


def ask_all(server, bodies):
    """All at once, while a first request keeps the model busy."""
    with concurrent.futures.ThreadPoolExecutor(len(bodies) + 1) as pool:
        busy = pool.submit(server.predict, {"instances": [0], "parameters": {"sleep": 1}})
        time.sleep(0.3)
        answers = list(pool.map(server.predict, bodies))
        assert busy.result().json() == {"predictions": [1]}
    return answers


def test_what_waits_goes_together(serve):
    server = serve("batches:Joins").ready()

    answers = ask_all(server, [{"instances": [1, 2]}] * 10)

    assert {str(answer.json()) for answer in answers} == {str({"predictions": [20, 20]})}


def test_parameters_are_never_mixed(serve):
    server = serve("batches:Joins").ready()

    answers = ask_all(server, [{"instances": [n], "parameters": {"k": n % 2}} for n in range(10)])

    assert {str(answer.json()) for answer in answers} == {str({"predictions": [5]})}


def test_one_callers_mistake_fails_nobody_else(serve):
    server = serve("batches:Joins").ready()

    answers = ask_all(server, [{"instances": ["bad" if n == 3 else "good"]} for n in range(8)])

    assert [answer.status_code for answer in answers] == [422 if n == 3 else 200 for n in range(8)]
    assert answers[3].json()["error"]["message"] == "bad rows are refused"
    assert server.stderr() == ""


def test_a_limit_of_the_settings_wins(serve):
    server = serve("batches:Joins", CPR_SERVE_MAX_BATCH_ROWS="4").ready()

    answers = ask_all(server, [{"instances": [1]}] * 8)

    assert max(answer.json()["predictions"][0] for answer in answers) <= 4


def test_every_request_gets_its_own_rows_back(serve):
    server = serve("batches:JoinsArrays").ready()

    bodies = [{"instances": [[n, n], [n, 1]]} for n in range(40)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(server.predict, bodies))

    assert [answer.json()["predictions"] for answer in answers] == [[2.0 * n, n + 1.0] for n in range(40)]


def test_company_is_waited_for_only_when_asked(serve):
    server = serve("batches:WaitsForCompany").ready()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(server.predict, [{"instances": [1]}] * 4))

    assert {answer.json()["predictions"][0] for answer in answers} == {4}


@pytest.mark.parametrize("predictor", ["batches:Joins", "answers:Doubles"])
def test_server_timing_tells_where_the_time_went(serve, predictor):
    response = serve(predictor).ready().predict({"instances": [1], "parameters": {"sleep": 0.2}})

    steps = dict(step.split(";dur=") for step in response.headers["server-timing"].split(", "))
    assert list(steps) == ["queue", "preprocess", "predict", "postprocess"]
    assert float(steps["predict"]) >= (200 if predictor == "batches:Joins" else 0)
    assert float(steps["queue"]) < 200
