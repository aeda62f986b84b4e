"""A canary's verdict: by figures that are made up, and by real versions behind a real split."""

import dataclasses
import itertools
import re
import threading

import pytest
from dep_world import CHECK, RULES, emulator, engine, image  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.deploy.predict import canary
from cpr_kit.deploy.predict import verdict
from cpr_kit.deploy.predict.asking import Answer, Asker
from cpr_kit.deploy.target import CheckRequest
from cpr_kit.deploy_config import CanaryRules
from cpr_kit.deploy.predict.verdict import Sample, fault, judge
from cpr_kit.errors import UsageError

QUICK = CanaryRules(requests=40, timeout_s=60.0)
RIGHT = b'{"predictions": [3, 7], "deployedModelId": "%b"}'


def answer(who="new", status=200, body=b"", seconds=0.01, content=RIGHT):
    return Answer(
        status=status,
        body=body or content % who.encode(),
        content_type="application/json",
        deployed_model=who,
        seconds=seconds,
    )


def samples(count, seconds=0.01, error=""):
    return [Sample(seconds=seconds, error=error)] * count


# One answer


@pytest.mark.parametrize(
    "body",
    [
        b'{"predictions": [3, 7]}',
        b'{"predictions": [3.0, 7.0000000001], "deployedModelId": "1", "model": "m", "modelVersionId": "2"}',
        b'{"predictions": [3, 7], "modelDisplayName": "x"}',
    ],
)
def test_right_answers(body):
    assert fault(CHECK, answer(body=body)) == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"predictions": [3, 8]}', r"\$.predictions\[1\]: expected 7, got 8"),
        (b'{"predictions": [3]}', "expected 2 items, got 1"),
        (b'{"predictions": [3, 7], "metadata": 1}', "expected the keys"),
        (b"[3, 7]", "expected"),
        (b"nonsense", 'got "nonsense"'),
    ],
)
def test_wrong_answers(body, words):
    found = fault(CHECK, answer(body=body))
    assert re.search(words, found), found
    assert found.startswith('check "two rows": ')


def test_what_vertex_ai_may_drop_and_what_it_may_not():
    check = dataclasses.replace(CHECK, expected=b'{"predictions": [3, 7], "took": 4, "model": "mine"}')
    assert fault(check, answer(body=b'{"predictions": [3, 7]}')) == ""
    assert "took" in fault(check, answer(body=b'{"predictions": [3, 7], "took": 5, "model": "mine"}'))
    assert "model" in fault(check, answer(body=b'{"predictions": [3, 7], "model": "projects/1/models/2"}'))


def test_other_content_is_compared_byte_by_byte():
    check = CheckRequest(name="c", body=b"1,2", content_type="text/csv", expected=b"3\n")
    right = dataclasses.replace(answer(body=b"3\n"), content_type="text/csv; charset=utf-8")
    assert fault(check, right) == ""
    assert fault(check, dataclasses.replace(right, body=b"3.0\n"))
    assert fault(check, dataclasses.replace(right, body=b"4\n")) == 'check "c": expected "3\\n", got "4\\n"'


def test_any_200_will_do_where_nothing_is_expected():
    check = CheckRequest(name="c", body=b"")
    assert fault(check, answer(body=b"?")) == ""
    assert fault(check, answer(status=500, body=b'{"error": {"message": "no room"}}')) == 'check "c": 500: no room'


# All of them


def test_the_words_of_a_version_that_is_slow():
    found = judge(samples(200, 0.084), samples(500, 0.031), CanaryRules())
    assert not found.passed
    assert found.reasons == (
        "median 84 ms against 31 ms: ratio 2.7, allowed 1.5",
        "p95 84 ms against 31 ms: ratio 2.7, allowed 1.5",
    )
    assert found.figures["median_new_ms"] == pytest.approx(84)
    assert found.figures["p95_ratio"] == pytest.approx(84 / 31)


def test_a_tail_that_is_slow():
    found = judge([*samples(185, 0.03), *samples(15, 0.5)], samples(500, 0.03), CanaryRules())
    assert found.reasons == ("p95 500 ms against 30 ms: ratio 17, allowed 1.5",)


def test_the_words_of_a_version_that_is_good():
    found = judge(samples(200, 0.012), samples(500, 0.004), CanaryRules())
    assert found.passed
    assert found.reasons == (
        "0 of 200 answers were wrong (0 %), allowed 0 %",
        "median 12 ms against 4.0 ms: ratio 3, allowed 1.5, and up to 20 ms more in any case",
        "p95 12 ms against 4.0 ms: ratio 3, allowed 1.5, and up to 20 ms more in any case",
    )


@pytest.mark.parametrize(("slack", "passed"), [(33.0, False), (35.0, True)])
def test_a_difference_below_the_slack_is_not_held_against_it(slack, passed):
    rules = CanaryRules(latency_slack_ms=slack)
    assert judge(samples(200, 0.084), samples(500, 0.050), rules).passed == passed


def test_the_words_of_a_version_that_errs():
    wrong = [*samples(2, error="500: a"), Sample(seconds=0.1, error="503: b", named=False)]
    found = judge([*samples(97), *wrong], samples(500), CanaryRules(requests=100, max_error_rate=0.02))
    assert found.reasons == (
        "3 of 100 answers were wrong (3 %), allowed 2 %",
        "2 times: 500: a",
        "503: b",
        "1 of the errors name no deployed model and are held against the new version",
    )


def test_an_old_version_that_errs_as_much():
    found = judge(samples(100, error="x"), samples(50, error="x"), CanaryRules(requests=100))
    assert (
        "the old version gave 50 wrong answers of 50 (100 %), as many as the new one: look at the" in found.reasons[2]
    )
    found = judge(samples(100, error="x"), [*samples(49), *samples(1, error="x")], CanaryRules(requests=100))
    assert found.reasons[2] == "the old version gave 1 wrong answers of 50 (2 %)"


@pytest.mark.parametrize("old", [[], samples(19), samples(100, error="x")])
def test_an_old_version_without_answers(old):
    found = judge(samples(200, 9.0), old, CanaryRules())
    assert found.passed
    assert found.reasons[-1].startswith("latency was not compared: ")


def test_too_few_answers():
    found = judge(samples(199), samples(500), CanaryRules())
    assert not found.passed
    assert found.reasons[0].startswith("the new version answered 199 of the 200 requests")


seconds = st.floats(0.0001, 100.0)
one = st.builds(Sample, seconds=seconds, error=st.sampled_from(["", "", "", "bad"]))
some = st.one_of(st.lists(one, max_size=30), st.lists(one, min_size=30, max_size=80))
rules = st.builds(
    CanaryRules,
    requests=st.integers(1, 60),
    max_error_rate=st.floats(0, 1),
    max_latency_ratio=st.floats(1, 5),
    latency_slack_ms=st.floats(0, 1000),
)


@given(some, some, rules)
def test_a_verdict_is_what_its_figures_say(new, old, rules):
    found = judge(new, old, rules)
    figures = found.figures
    errs = figures["errors_new"] > rules.max_error_rate * max(len(new), rules.requests) + 1e-9
    slow = any(
        figures[f"{name}_ratio"] > rules.max_latency_ratio
        and figures[f"{name}_new_ms"] - figures[f"{name}_old_ms"] > rules.latency_slack_ms
        for name in ("median", "p95")
        if f"{name}_ratio" in figures
    )
    assert found.passed == (not errs and not slow and len(new) >= rules.requests)
    assert found.reasons


@given(some, some, rules)
def test_the_order_of_the_answers_does_not_matter(new, old, rules):
    one, other = judge(new, old, rules), judge(new[::-1], old[::-1], rules)
    assert (one.passed, one.figures) == (other.passed, other.figures)


@given(some, some, rules)
def test_an_error_more_or_a_slower_answer_never_helps(new, old, rules):
    worse = [dataclasses.replace(sample, seconds=sample.seconds * 2) for sample in new]
    assert judge(worse, old, rules).passed <= judge(new, old, rules).passed
    errs = [*new, Sample(seconds=1.0, error="bad")]
    if len(new) >= rules.requests and rules.max_error_rate < 1:
        assert judge(errs, old, rules).figures["errors_new"] == judge(new, old, rules).figures["errors_new"] + 1
        none_allowed = dataclasses.replace(rules, max_error_rate=0.0)
        assert not judge(errs, old, none_allowed).passed


@given(st.lists(seconds, min_size=1, max_size=50), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_splits_them(values, share):
    found = verdict.percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) <= share * len(values) + 1e-6


# The requests


def split(every, who_else="old", **fields):
    """One in so many answers is the new version's."""
    numbers = itertools.count()
    lock = threading.Lock()

    def ask(_check):
        with lock:
            number = next(numbers)
        return answer("new", **fields) if number % every == 0 else answer(who_else)

    return ask


def test_requests_are_sent_until_the_new_version_has_answered_enough():
    lines = []
    found = canary.observe(split(2), [CHECK], "old", "new", QUICK, lines.append)
    assert found.passed, found.reasons
    assert found.figures["requests_new"] == 40
    assert 36 <= found.figures["requests_old"] <= 44
    assert found.reasons[1] == "median 10 ms against 10 ms: ratio 1, allowed 1.5"
    assert lines[-1] == "canary: 40 of 40 requests, 0 wrong"
    assert len(lines) <= 10


def test_the_old_version_is_to_have_answered_often_enough_to_be_compared_with():
    """By chance a slow version's requests are over before twenty of them met the old one; that must not let it pass."""
    swapped = split(10, seconds=0.5)

    def ask(check):
        """Nine of ten answers are the new version's."""
        return answer("old", seconds=0.001) if swapped(check).deployed_model == "new" else answer("new", seconds=0.5)

    found = canary.observe(ask, [CHECK], "old", "new", QUICK)
    assert not found.passed
    assert "median 500 ms against" in found.reasons[0]
    assert found.figures["requests_old"] == 20
    assert found.figures["requests_new"] >= 170


def test_an_old_version_that_answers_next_to_nothing_is_not_waited_for():
    rules = dataclasses.replace(QUICK, requests=20, timeout_s=3600.0)
    found = canary.observe(lambda _: answer("new"), [CHECK], "old", "new", rules)
    assert found.passed
    assert found.figures["requests_new"] == 400


def test_it_ends_as_soon_as_the_result_is_certain():
    rules = CanaryRules(requests=1000, max_error_rate=0.003)
    bad = answer("new", 500, b"no").body
    found = canary.observe(split(2, status=500, body=bad), [CHECK], "old", "new", rules)
    assert not found.passed
    assert found.figures["errors_new"] == 4  # the fourth is one too many of a thousand
    assert found.reasons[0] == "4 of 4 answers were wrong (100 %), allowed 0.3 %"


def test_errors_that_name_nobody_are_held_against_the_new_version():
    nobody = dataclasses.replace(answer(status=503, body=b"down"), deployed_model="")
    answers = itertools.cycle([answer("old"), answer("old"), nobody])
    found = canary.observe(lambda _: next(answers), [CHECK], "old", "new", QUICK)
    assert not found.passed
    assert 'check "two rows": 503: down' in found.reasons
    assert "1 of the errors name no deployed model and are held against the new version" in found.reasons


@pytest.mark.parametrize("status", [0, 429])
def test_what_the_front_and_the_network_refuse_is_put_off(status, monkeypatch):
    monkeypatch.setattr(canary, "_FIRST_PAUSE_S", 0.001)
    passing = [dataclasses.replace(answer(status=status, body=b"slow down"), deployed_model="")] * 5
    answers = itertools.chain(passing, itertools.cycle([answer("old"), answer("new")]))
    lock = threading.Lock()

    def ask(_check):
        with lock:
            return next(answers)

    found = canary.observe(ask, [CHECK], "old", "new", QUICK)
    assert found.passed, found.reasons
    assert found.reasons[-1] == f'5 requests were put off: check "two rows": {status or "no connection"}: slow down'


def test_a_new_version_that_is_never_reached():
    rules = dataclasses.replace(QUICK, timeout_s=0.3)
    found = canary.observe(lambda _: answer("old"), [CHECK], "old", "new", rules)
    assert not found.passed
    assert "the new version answered 0 of the 40 requests" in found.reasons[0]


def test_requests_that_hang_end_it(monkeypatch):
    monkeypatch.setattr(canary, "_STUCK_S", 0.2)
    monkeypatch.setattr(canary, "_END_S", 0.1)
    ends, numbers = threading.Event(), itertools.count()

    def ask(_check):
        if next(numbers) >= 8:
            ends.wait()
        return answer("old", seconds=0.001)

    found = canary.observe(ask, [CHECK], "old", "new", dataclasses.replace(QUICK, timeout_s=3600.0))
    ends.set()
    assert not found.passed
    assert found.reasons[-1] == "4 requests had no answer yet when the canary was judged"


def test_what_asking_raises_comes_out():
    def ask(_check):
        raise UsageError("the request is too large")

    with pytest.raises(UsageError, match="too large"):
        canary.observe(ask, [CHECK], "old", "new", QUICK)


def test_a_canary_without_checks():
    with pytest.raises(UsageError, match=r"there are none; add a \[\[check\]\] .* or deploy without --canary"):
        canary.observe(split(2), [], "old", "new", QUICK)


def test_without_an_old_version_each_check_is_asked():
    checks = [CheckRequest(name=f"c{number}", body=b"") for number in range(7)]
    asked, lock = [], threading.Lock()

    def ask(check):
        with lock:
            asked.append(check.name)
        return answer("new")

    found = canary.observe(ask, checks, None, "new", CanaryRules(requests=7))
    assert found.passed
    assert set(asked) == {check.name for check in checks}
    assert found.reasons == (f"0 of {int(found.figures['requests_new'])} answers were wrong (0 %), allowed 0 %",)


def test_without_an_old_version_a_check_that_others_answer_first_is_asked_again():
    checks = [CheckRequest(name="a", body=b""), CheckRequest(name="b", body=b"")]
    others = itertools.chain(["another"] * 5, itertools.repeat("new"))
    found = canary.observe(
        lambda check: answer("new" if check.name == "a" else next(others)), checks, None, "new", CanaryRules(requests=2)
    )
    assert found.passed, found.reasons


def test_without_an_old_version_a_check_that_is_never_answered_fails_it():
    checks = [CheckRequest(name="a", body=b""), CheckRequest(name="b", body=b"")]

    def ask(check):
        return answer("new") if check.name == "a" else answer("another")

    found = canary.observe(ask, checks, None, "new", CanaryRules(requests=2, timeout_s=0.3))
    assert (found.passed, found.reasons) == (False, ('check "b" got no answer of the new version',))


# Real versions behind a real split


@pytest.fixture(scope="module")
def versions(emulator):  # noqa: F811
    """Two deployed models of one endpoint for each kind of new version, half of the traffic each."""
    from google.cloud import aiplatform

    aiplatform.init(project="dep-canary", location="us-central1", api_transport="rest")

    def deployed(kind):
        endpoint = aiplatform.Endpoint.create(display_name=kind)
        for name in ("one", kind):
            model = aiplatform.Model.upload(
                display_name=name,
                serving_container_image_uri=image(name),
                serving_container_predict_route="/predict",
                serving_container_health_route="/health",
            )
            model.deploy(
                endpoint=endpoint, machine_type="n1-standard-2", traffic_percentage=100 if name == "one" else 50
            )
        old, new = sorted(endpoint.list_models(), key=lambda each: each.create_time)
        return endpoint.name, old.id, new.id

    return deployed


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("two", None),
        ("wrong", "$.predictions[0]: expected 3, got 4"),
        ("failing", '500: {"error": "no"}'),
        ("crashing", "503"),
        ("slow", "median"),
    ],
)
def test_a_real_canary(versions, kind, words):
    from cpr_kit.deploy.vertex.client import Vertex

    name, old, new = versions(kind)
    rules = dataclasses.replace(RULES, latency_slack_ms=50.0) if kind == "slow" else RULES  # it takes 250 ms more
    with Asker(Vertex("dep-canary", "us-central1").endpoint(name), "dep-canary", "us-central1") as asker:
        found = canary.observe(lambda check: asker.predict(check.body, check.content_type), [CHECK], old, new, rules)
    assert found.passed == (words is None), found.reasons
    assert words is None or any(words in reason for reason in found.reasons), found.reasons
    assert found.figures["errors_old"] == 0
