"""Which deployed model gets a request; what each kind of endpoint allows; what errors of containers become."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.emulator.errors import ApiError, Code
from cpr_kit.emulator.predict import limits, mapping
from cpr_kit.emulator.predict.target import DeployedModel, Endpoint, pick
from cpr_kit.emulator.settings import Settings

NAME = "projects/123/locations/us-central1/endpoints/77"


def model(key="1", **fields):
    return DeployedModel(
        id=key,
        model="projects/123/locations/us-central1/models/m",
        version="1",
        display_name="m",
        container=None,
        **fields,
    )


def endpoint(kind="public", traffic=None, **fields):
    traffic = {"1": 100} if traffic is None else traffic
    fields.setdefault("models", {key: model(key) for key in traffic})
    return Endpoint(name=NAME, kind=kind, timeout_s=fields.pop("timeout_s", 600.0), traffic=traffic, **fields)


splits = st.lists(st.integers(0, 100), min_size=2, max_size=5).filter(any)


@given(splits, st.integers())
def test_requests_go_by_weight(weights, seed):
    target = endpoint(traffic={str(key): weight for key, weight in enumerate(weights)})
    rng = random.Random(seed)
    picked = Counter(pick(target, rng).id for _ in range(2000))
    for key, weight in target.traffic.items():
        expected = 2000 * weight / sum(weights)
        # Six standard deviations of a binomial, and a few more requests where hardly any are expected.
        assert abs(picked[key] - expected) <= 6 * (expected * (1 - weight / sum(weights))) ** 0.5 + 6
        if weight == 0:
            assert picked[key] == 0


def test_each_request_is_drawn_anew():
    target = endpoint(traffic={"1": 50, "2": 50})
    rng = random.Random(4)
    assert [pick(target, rng).id for _ in range(8)] == ["1", "1", "1", "1", "1", "1", "2", "2"]


def test_a_share_of_a_model_that_is_gone_counts_for_nothing():
    target = endpoint(traffic={"gone": 99, "1": 1}, models={"1": model()})
    assert {pick(target, random.Random(seed)).id for seed in range(50)} == {"1"}


def test_a_named_deployed_model_needs_no_traffic():
    target = endpoint(traffic={"1": 100, "2": 0})
    assert pick(target, random.Random(1), "2").id == "2"
    with pytest.raises(ApiError, match="DeployedModel 3 is not found") as caught:
        pick(target, random.Random(1), "3")
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (endpoint(traffic={}), "doesn't have a deployed model."),
        (endpoint(traffic={}, models={"1": model()}), "trafficSplit is empty"),
        (endpoint(traffic={"1": 0}), "trafficSplit is empty"),
    ],
)
def test_nobody_to_ask(target, words):
    with pytest.raises(ApiError, match=words) as caught:
        pick(target, random.Random(1))
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert NAME in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "given", "seconds"),
    [
        ("public", 600.0, 60.0),
        ("psa", 600.0, 60.0),
        ("dedicated", 0.0, 600.0),
        ("dedicated", 7.5, 7.5),
        ("psc", 0.1, 1.0),
        ("psc", 7200.0, 3600.0),
    ],
)
def test_timeouts(kind, given, seconds):
    assert limits.timeout_s(endpoint(kind, timeout_s=given)) == seconds


@pytest.mark.parametrize(
    ("kind", "size"), [("public", 1_500_000), ("dedicated", 10_000_000), ("psc", 10_000_000), ("psa", 10_000_000)]
)
def test_sizes(kind, size):
    target = endpoint(kind)
    limits.check_request(target, size, Settings())
    for status in (400, 413):
        with pytest.raises(ApiError, match=f"Request payload size exceeds the limit: {size} bytes") as caught:
            limits.check_request(target, size + 1, Settings(too_large_status=status))
        assert (caught.value.http_status, caught.value.code) == (status, Code.INVALID_ARGUMENT)


ALLOWED = {
    "predict": {"public", "dedicated", "psc"},
    "rawPredict": {"public", "dedicated", "psc"},
    "streamRawPredict": {"public", "dedicated", "psc"},
    "explain": {"public"},
    "invoke": {"dedicated", "psc"},
    "directPredict": {"public", "dedicated", "psc"},
}


@pytest.mark.parametrize("kind", ["public", "dedicated", "psc", "psa"])
@pytest.mark.parametrize("verb", ALLOWED)
def test_calls_by_kind(kind, verb):
    target = endpoint(kind)
    if kind in ALLOWED[verb]:
        limits.allow(target, verb)
        return
    with pytest.raises(ApiError, match=f"{verb} is not supported on") as caught:
        limits.allow(target, verb)
    assert caught.value.code is Code.FAILED_PRECONDITION


KEEPS, PLAIN = Settings(), Settings(other_errors_keep_status=False)


@pytest.mark.parametrize(
    ("status", "settings", "http", "code"),
    [
        (400, KEEPS, 400, Code.FAILED_PRECONDITION),
        (503, KEEPS, 503, Code.UNAVAILABLE),
        (500, KEEPS, 500, Code.INTERNAL),
        (404, KEEPS, 404, Code.NOT_FOUND),
        (422, KEEPS, 422, Code.INVALID_ARGUMENT),
        (429, KEEPS, 429, Code.RESOURCE_EXHAUSTED),
        (504, KEEPS, 504, Code.DEADLINE_EXCEEDED),
        (404, PLAIN, 400, Code.FAILED_PRECONDITION),
        (502, PLAIN, 500, Code.INTERNAL),
    ],
)
def test_a_containers_error_is_passed_on_word_for_word(status, settings, http, code):
    error = mapping.refused(status, b' {"error": "4 numbers, not 3"}\n', settings)
    assert (error.http_status, error.code) == (http, code)
    assert error.body() == {"error": {"code": http, "message": ' {"error": "4 numbers, not 3"}\n', "status": code.name}}


def test_a_redirect_is_not_followed():
    error = mapping.refused(307, b"", KEEPS)
    assert (error.code, str(error)) == (Code.INTERNAL, "The model server answered with HTTP status 307.")


def test_no_replica():
    assert mapping.not_ready(model(), KEEPS).code is Code.UNAVAILABLE
    error = mapping.not_ready(model(min_replicas=0), KEEPS)
    assert (error.http_status, error.code) == (429, Code.RESOURCE_EXHAUSTED)
    assert "Model is not yet ready for inference" in str(error)
