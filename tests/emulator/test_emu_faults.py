from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import random

import pytest
from google.cloud import aiplatform_v1
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.emulator import calls, faults
from cpr_kit.emulator.calls import canonical
from cpr_kit.emulator.errors import ApiError, Code
from cpr_kit.emulator.faults import Fault, FaultError, Faults, parse
from cpr_kit.errors import UsageError

PREDICT = "PredictionService.Predict"
DEPLOY = "EndpointService.DeployModel"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("predict:latency=200ms", Fault(call=PREDICT, latency_s=0.2)),
        ("predict:latency=1.5s", Fault(call=PREDICT, latency_s=1.5)),
        ("predict:latency=2m", Fault(call=PREDICT, latency_s=120)),
        (
            "predict:status=503:share=10%",
            Fault(call=PREDICT, code=Code.UNAVAILABLE, http_status=503, share=0.1),
        ),
        (
            'DeployModel:fail="model server never became ready":count=1',
            Fault(call=DEPLOY, code=Code.FAILED_PRECONDITION, fail="model server never became ready", count=1),
        ),
        ("deploy:fail=no room:code=8", Fault(call=DEPLOY, code=Code.RESOURCE_EXHAUSTED, fail="no room")),
        ("deploy:fail='a: b':code=aborted", Fault(call=DEPLOY, code=Code.ABORTED, fail="a: b")),
        (r'deploy:fail="say \"a:b\" \\"', Fault(call=DEPLOY, code=Code.FAILED_PRECONDITION, fail='say "a:b" \\')),
        ("upload:status=UNAVAILABLE:count=2", Fault(call="ModelService.UploadModel", code=Code.UNAVAILABLE, count=2)),
        (
            "storage:status=503:share=0.5",
            Fault(call="storage", code=Code.UNAVAILABLE, http_status=503, share=0.5),
        ),
        (
            "predict:status=429:retry_after=2s:message=Quota exceeded:after=3",
            Fault(
                call=PREDICT, code=Code.RESOURCE_EXHAUSTED, http_status=429, retry_after_s=2,
                message="Quota exceeded", after=3,
            ),
        ),
        ("replica:die:after=100", Fault(call="replica", die=True, after=100)),
        ("*:latency=1s", Fault(call="*", latency_s=1)),
        ("deploy:lost:count=1", Fault(call=DEPLOY, lost=True, count=1)),
        (
            "deploy:lost:status=504:message=too slow",
            Fault(call=DEPLOY, lost=True, code=Code.DEADLINE_EXCEEDED, http_status=504, message="too slow"),
        ),
        (
            "upload:location=europe-west4:status=UNAVAILABLE:count=3",
            Fault(call="ModelService.UploadModel", location="europe-west4", code=Code.UNAVAILABLE, count=3),
        ),
        ("*:location=global:latency=1s", Fault(call="*", location="global", latency_s=1)),
        ("replica:die:location=us-east1", Fault(call="replica", die=True, location="us-east1")),
        ("token:status=400", Fault(call="oauth2.token", code=Code.INVALID_ARGUMENT, http_status=400)),
        ("EndpointService:fail=x", Fault(call="EndpointService", code=Code.FAILED_PRECONDITION, fail="x")),
    ],
)  # fmt: skip
def test_a_fault_is_read(text, expected):
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((spelling, DEPLOY) for spelling in ("DeployModel", "deployModel", "deploy_model", "deploy-model", "deploy")),
        ("EndpointService.DeployModel", DEPLOY),
        ("/google.cloud.aiplatform.v1.EndpointService/DeployModel", DEPLOY),
        ("EndpointService/DeployModel", DEPLOY),
        ("projects.locations.endpoints.deployModel", DEPLOY),
        ("predict", PREDICT),
        ("rawPredict", "PredictionService.RawPredict"),
        ("invoke", "PredictionService.Invoke"),
        ("raw_predict", "PredictionService.RawPredict"),
        ("storage.objects.insert", "storage.objects.insert"),
        ("objects.insert", "storage.objects.insert"),
        ("storage.objects", "storage.objects"),
        ("model_service", "ModelService"),
        ("batch", "JobService.CreateBatchPredictionJob"),
        ("*", "*"),
        ("", None),
        ("insert", None),
    ],
)
def test_a_call_has_many_spellings(name, expected):
    assert canonical(name) == expected


def test_the_calls_are_the_services_own():
    for service, methods in calls.CALLS.items():
        client = getattr(aiplatform_v1, f"{service}Client", None)
        if client is None:
            assert service in {"Operations", "storage", "oauth2"}
            continue
        for method in methods:
            if method == "Invoke":  # of REST alone, which the SDK has no method for
                continue
            assert callable(getattr(client, "".join(f"_{c.lower()}" if c.isupper() else c for c in method)[1:]))


def test_what_can_fail_later_is_what_answers_an_operation():
    found = {"CreateBatchPredictionJob"}
    for service, methods in calls.CALLS.items():
        client = getattr(aiplatform_v1, f"{service}Client", None)
        for method in methods if client else ():
            if method == "Invoke":
                continue
            name = "".join(f"_{c.lower()}" if c.isupper() else c for c in method)[1:]
            if "Operation" in str(inspect.signature(getattr(client, name)).return_annotation):
                found.add(method)
    assert found == calls.OPERATIONS


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("predct:latency=1s", '"predct", which is no call: did you mean Predict'),
        ("DeployModl:fail=x", "did you mean DeployModel"),
        ("xyzzy:latency=1s", "a method such as predict or DeployModel"),
        ("predict", "does not say what happens: give it latency=, status=, lost or fail="),
        ("predict:location=us-east1", "does not say what happens"),
        ("predict:lost=yes", "write lost"),
        ("deploy:lost:fail=x", "take one"),
        ("replica:lost", "name a call"),
        ("upload:location=:status=503", "write location=europe-west4"),
        ("upload:location=Europe West:status=503", "such as europe-west4"),
        ("storage:location=us-east1:status=503", "has no location in its name"),
        ("token:location=us-east1:status=503", "has no location in its name"),
        ("replica", "give it die"),
        ("predict:latency=200", "a number with ms, s or m behind it"),
        ("predict:latency=-1s", "a number with ms, s or m behind it"),
        ("predict:latency", "write latency=200ms"),
        ("predict:latency=1s:latency=2s", "twice"),
        ("deploy:fail=", "write fail=TEXT"),
        ("predict:status=200", "from 400 to 599"),
        ("predict:status=BROKEN", "RESOURCE_EXHAUSTED"),
        ("predict:status=503:share=0", "and not 0"),
        ("predict:status=503:share=101%", "such as 10%"),
        ("predict:status=503:share=nan", "such as 10%"),
        ("predict:status=503:share=some", "such as 10%"),
        ("predict:status=503:count=0", "a whole number from 1"),
        ("predict:status=503:after=-1", "a whole number from 0"),
        ("predict:latency=1s:message=x", "belongs to status="),
        ("predict:latency=1s:retry_after=1s", "belongs to status="),
        ("predict:status=503:code=3", "belongs to fail="),
        ("predict:fail=x", "begins no operation: use status="),
        ("storage:fail=x", "begins no operation"),
        ("deploy:fail=x:code=17", "from 1 to 16"),
        ("deploy:fail=x:status=503", "take one"),
        ("deploy:fail=model: never", "A text with a colon in it stands in quotes"),
        ('deploy:fail="x', "does not end"),
        ("predict:die", "write replica:die"),
        ("replica:status=503", "name a call"),
        ("replica:die=1", "write die"),
        ("predict:colour=red", "latency=200ms; status=503"),
        ({"latency": "1s"}, "no call"),
        ({"call": "predict", "latency": 0.2}, "a number with ms, s or m"),
        ({"call": "predict", "status": [503]}, "a text or a number"),
        ({"call": ["predict"], "status": 503}, "no call"),
        (["predict"], "a text or an object"),
        (None, "a text or an object"),
    ],
)
def test_a_wrong_fault_is_refused_with_what_is_allowed(value, why):
    with pytest.raises(UsageError) as caught:
        parse(value)
    assert why in str(caught.value)


def test_the_admin_routes_json_says_the_same():
    body = '{"call": "predict", "status": 429, "share": 0.25, "count": 2, "retry_after": "1s", "message": "a:b"}'
    assert parse(json.loads(body)) == parse('predict:status=429:share=25%:count=2:retry_after=1s:message="a:b"')
    assert parse({"call": "replica", "die": True, "after": 5}) == parse("replica:die:after=5")
    assert parse({"call": "predict", "latency": "1s", "die": False}) == parse("predict:latency=1s")


MESSAGES = st.text(alphabet="ab:=\\\"' %\n", min_size=1, max_size=8).map(str.strip).filter(bool)
COUNTS = {
    "count": st.none() | st.integers(1, 10**6),
    "after": st.integers(0, 10**6),
    "share": st.sampled_from([1.0, 0.1, 1 / 3]),
}
SECONDS = st.integers(1, 10**9).map(lambda microseconds: microseconds / 10**6)
ANY_FAULT = st.one_of(
    st.builds(Fault, call=st.sampled_from([PREDICT, "storage", "*"]), latency_s=SECONDS, **COUNTS),
    st.builds(
        Fault, call=st.sampled_from([PREDICT, "storage.objects.get", "ModelService"]), latency_s=SECONDS | st.just(0.0),
        code=st.sampled_from(Code), message=MESSAGES | st.just(""), retry_after_s=st.none() | SECONDS, **COUNTS,
    ),
    st.builds(Fault, call=st.just(DEPLOY), code=st.sampled_from(Code), fail=MESSAGES, **COUNTS),
    st.builds(Fault, call=st.just("replica"), die=st.just(True), **COUNTS),
    st.builds(
        Fault, call=st.just(DEPLOY), lost=st.just(True), code=st.none() | st.sampled_from(Code),
        location=st.sampled_from(["", "us-central1"]), **COUNTS,
    ),
)  # fmt: skip


@given(ANY_FAULT)
def test_a_fault_is_written_as_it_is_read(fault):
    read = parse(str(fault))
    assert read.latency_s == pytest.approx(fault.latency_s)
    assert read.retry_after_s == pytest.approx(fault.retry_after_s)
    same = {"latency_s": read.latency_s, "retry_after_s": read.retry_after_s}
    assert read == dataclasses.replace(fault, **same)


PIECES = st.sampled_from(
    [*faults._KEYS, "predict", "replica", "deploy", ":", "=", '"', "\\", "1", "%", "503", "ms", " ", "die"]
)


@given(st.text(max_size=30) | st.lists(PIECES, max_size=10).map("".join))
def test_no_text_crashes(text):
    try:
        parse(text)
    except UsageError as error:
        assert str(error)


def struck(found, name, times):
    """For each of so many calls: the code, or None."""
    return [fault and fault.code and fault.code.name for fault in (found.for_call(name) for _ in range(times))]


def test_counts_go_down_and_then_calls_pass():
    found = Faults([parse("upload:status=UNAVAILABLE:count=2")])
    assert struck(found, "ModelService.UploadModel", 4) == ["UNAVAILABLE", "UNAVAILABLE", None, None]
    assert found.for_call("GetModel") is None
    assert found.entries() == [{"id": 1, "fault": "UploadModel:status=UNAVAILABLE:count=2", "calls": 4, "struck": 2}]


def test_after_lets_the_first_calls_pass():
    found = Faults([parse("replica:die:after=2:count=1")])
    assert [bool(found.for_call("replica")) for _ in range(5)] == [False, False, True, False, False]
    assert struck(Faults([parse("*:status=503")]), "replica", 1) == [None]  # a replica is no call


def test_a_replica_dies_once_unless_more_is_asked_for():
    for text, deaths in (("replica:die:after=1", 1), ("replica:die:count=3:after=1", 3)):
        found = Faults([parse(text)])
        assert [bool(found.for_call("replica")) for _ in range(6)] == [False, *[True] * deaths, *[False] * (5 - deaths)]
        assert found.entries()[0]["fault"] == text


def test_what_cannot_be_struck_is_not_counted_as_struck():
    found = Faults([parse("replica:die:after=1")])
    assert not any(found.for_call("replica", able=False) for _ in range(3))
    assert found.entries()[0]["struck"] == 0
    assert found.for_call("replica")


def test_a_location_is_the_only_one_that_is_struck():
    found = Faults([parse("upload:location=us-east1:status=503:count=1"), parse("deploy:location=us-east1:fail=x")])
    upload = "ModelService.UploadModel"
    assert [bool(found.for_call(upload, where)) for where in ("", "us-central1", "us-east1", "us-east1")] == [
        False, False, True, False,
    ]  # fmt: skip
    assert [bool(found.for_operation(DEPLOY, where)) for where in ("us-central1", "us-east1")] == [False, True]
    assert found.entries()[0]["calls"] == 2


def test_a_lost_answer_is_no_refusal_before_the_call():
    found = Faults([parse("deploy:lost:status=503:count=1"), parse("deploy:lost:count=1")])
    met = [asyncio.run(found.apply_before(DEPLOY)) for _ in range(3)]
    assert [fault and fault.lost for fault in met] == [True, True, None]
    assert [FaultError(fault).cuts for fault in met[:2]] == [False, True]
    assert FaultError(met[1]).code is Code.UNAVAILABLE


def test_counts_of_several_refusals_follow_each_other():
    found = Faults([parse("predict:status=503:count=2"), parse("predict:status=429:count=1")])
    assert struck(found, "predict", 4) == ["UNAVAILABLE", "UNAVAILABLE", "RESOURCE_EXHAUSTED", None]


def test_latencies_add_up_and_a_refusal_comes_after_them():
    found = Faults([parse("*:latency=1s"), parse("predict:status=503:latency=2s"), parse("predict:latency=4s")])
    fault = found.for_call("predict")
    assert (fault.latency_s, fault.code) == (7, Code.UNAVAILABLE)
    assert found.for_call("storage.objects.get").latency_s == 1


@pytest.mark.parametrize(
    ("text", "call", "strikes"),
    [
        ("*:status=503", "ModelService.GetModel", True),
        ("*:status=503", "Something.Unheard", True),
        ("ModelService:status=503", "ModelService.GetModel", True),
        ("ModelService:status=503", "EndpointService.GetEndpoint", False),
        ("storage:status=503", "storage.objects.insert", True),
        ("storage.objects:status=503", "storage.objects.insert", True),
        ("storage.objects:status=503", "storage.buckets.insert", False),
        ("predict:status=503", "rawPredict", False),
        ("DeleteModel:status=503", "DeleteModelVersion", False),
        ("predict:status=503", "/google.cloud.aiplatform.v1.PredictionService/Predict", True),
    ],
)
def test_a_fault_covers_its_calls_alone(text, call, strikes):
    assert bool(Faults([parse(text)]).for_call(call)) is strikes


def test_a_share_of_the_calls_is_struck():
    found = Faults([parse("predict:status=503:share=10%")], rng=random.Random(4))
    assert 60 < 1000 - struck(found, "predict", 1000).count(None) < 140
    assert struck(Faults([parse("predict:status=503:share=100%")]), "predict", 50).count(None) == 0


def test_a_share_counts_what_struck_alone():
    found = Faults([parse("predict:status=503:share=50%:count=3")], rng=random.Random(4))
    assert 50 - struck(found, "predict", 50).count(None) == 3


def test_a_refusal_is_an_error_of_the_api():
    found = Faults([parse("predict:status=429:retry_after=2s:message=Quota exceeded")])
    with pytest.raises(FaultError) as caught:
        asyncio.run(found.apply_before("predict"))
    error = caught.value
    assert (error.code, error.http_status, error.retry_after_s) == (Code.RESOURCE_EXHAUSTED, 429, 2)
    assert error.body() == {"error": {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}}
    assert isinstance(error, ApiError)
    with pytest.raises(FaultError, match="A fault on demand: Predict:status=502") as caught:
        asyncio.run(Faults([parse("predict:status=502")]).apply_before("predict"))
    assert (caught.value.code, caught.value.http_status) == (Code.UNKNOWN, 502)


def test_a_latency_is_waited_for_and_given_back_for_the_console(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(faults.asyncio, "sleep", sleep)
    found = Faults([parse("predict:latency=200ms:count=1"), parse("deploy:fail=x:latency=1s")])
    assert str(asyncio.run(found.apply_before("predict"))) == "Predict:latency=200ms:count=1"
    assert asyncio.run(found.apply_before("predict")) is None
    assert slept == [0.2]
    with pytest.raises(ApiError):
        asyncio.run(found.apply_operation("deploy"))
    assert slept == [0.2, 1]


def test_an_operations_failure_is_met_by_its_work_and_not_by_the_call():
    found = Faults([parse("DeployModel:fail=never ready:count=1"), parse("deploy:status=503:count=1")])
    with pytest.raises(FaultError):
        asyncio.run(found.apply_before(DEPLOY))
    assert asyncio.run(found.apply_before(DEPLOY)) is None
    with pytest.raises(ApiError, match="never ready") as caught:
        asyncio.run(found.apply_operation("DeployModel"))
    assert caught.value.code is Code.FAILED_PRECONDITION
    asyncio.run(found.apply_operation("DeployModel"))


def test_faults_come_and_go():
    found = Faults()
    first, second = found.add(parse("predict:latency=1s")), found.add(parse("predict:latency=2s"))
    found.remove(first)
    assert [entry["id"] for entry in found.entries()] == [second]
    with pytest.raises(ApiError, match="no fault 1") as caught:
        found.remove(first)
    assert caught.value.code is Code.NOT_FOUND
    assert found.for_call("predict").latency_s == 2
    found.clear()
    assert found.for_call("predict") is None
    assert found.add(parse("predict:latency=1s")) not in {first, second}
