from __future__ import annotations

import base64
import json

import pytest
from google.cloud.aiplatform_v1 import types
from google.longrunning.operations_pb2 import Operation
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import example, given
from hypothesis import strategies as st

from cpr_kit.emulator.errors import ApiError, Code
from cpr_kit.emulator.filters import predicate
from cpr_kit.emulator.listing import (
    ENDPOINTS,
    JOB_STATES,
    MODEL_VERSIONS,
    MODELS,
    OPERATIONS,
    batch_prediction_jobs,
    page,
)

PARENT = "projects/123/locations/us-central1"


def endpoint(number, display_name="e", created=0, updated=0, **labels):
    found = types.Endpoint.pb()(name=f"{PARENT}/endpoints/{number}", display_name=display_name, labels=labels)
    found.create_time.FromNanoseconds(created)
    found.update_time.FromNanoseconds(updated)
    return found


def model(number, display_name="m", version="1", created=0, **labels):
    found = types.Model.pb()(
        name=f"{PARENT}/models/{number}", version_id=version, display_name=display_name, labels=labels
    )
    found.version_create_time.FromNanoseconds(created)
    return found


def job(number, display_name, state, created, **labels):
    found = types.BatchPredictionJob.pb()(
        name=f"{PARENT}/batchPredictionJobs/{number}", display_name=display_name, state=state, labels=labels
    )
    found.create_time.FromJsonString(created)
    return found


def listed(messages, filter="", fields=ENDPOINTS, **options):
    given = {"order_by": "", "page_size": 1000, "page_token": "", "read_mask": None} | options
    return page(messages, filter=filter, fields=fields, **given)


def ids(messages):
    return {message.name.rpartition("/")[2] for message in messages}


def refusal(*args, **options):
    with pytest.raises(ApiError) as caught:
        listed(*args, **options)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


ENDPOINT_LIST = [
    endpoint(1, "iris", env="prod", tier=""),
    endpoint(2, 'say "hi" (now)', env="test"),
    endpoint(3, "iris*", **{"a key": "v 1"}),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "123"),
        ("  ", "123"),
        ("endpoint=1", "1"),
        ('endpoint!="1"', "23"),
        ('display_name="iris"', "1"),
        ("displayName=iris", "1"),
        ("displayName = 'iris'", "1"),
        ('display_name!="iris"', "23"),
        (r'display_name="say \"hi\" (now)"', "2"),
        ("display_name='say \"hi\" (now)'", "2"),
        ('display_name="iris*"', "3"),  # `=` knows no wildcard: the documents give it to `:` alone
        ("labels.env=prod", "1"),
        ('labels.env!="prod"', "23"),
        ("labels.env:*", "12"),
        ("labels:env", "12"),
        ("labels:*", "123"),
        ("labels.tier:*", "1"),
        ('labels.tier=""', "1"),
        ('labels."a key"="v 1"', "3"),
        ('labels:"a key"', "3"),
        ("labels.env:pr*", "1"),
        ('NOT display_name="iris"', "23"),
        ('-display_name="iris"', "23"),
        ("NOT (endpoint=1 OR endpoint=2)", "3"),
        ("endpoint=1 OR endpoint=2 AND labels.env=test", "2"),  # OR binds closer, AIP-160
        ("(endpoint=1) OR (endpoint=2 AND labels.env=test)", "12"),
        ("labels:env endpoint=2", "2"),
        ('baseModelName="text-bison"', ""),
        ("endpoint=1 AND endpoint=2", ""),
        (" OR ".join(["(endpoint=1)"] * 40), "1"),
        ("labels.AND:* OR endpoint = 3", "3"),
    ],
)
def test_endpoints_are_filtered_as_documented(text, expected):
    found, token = listed(ENDPOINT_LIST, text)
    assert ids(found) == set(expected)
    assert token == ""


JOBS = [
    job(1, "my_job_a", types.JobState.JOB_STATE_SUCCEEDED, "2021-05-17T23:59:59.999999999Z", keyA="valueA"),
    job(2, "my_job_b", types.JobState.JOB_STATE_FAILED, "2021-05-18T00:00:00Z", keyB="x"),
    job(3, "other", types.JobState.JOB_STATE_SUCCEEDED, "2021-05-19T00:00:00Z"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The examples of ListBatchPredictionJobsRequest.
        ('state="JOB_STATE_SUCCEEDED" AND display_name:"my_job_*"', "1"),
        ('state!="JOB_STATE_FAILED" OR display_name="my_job_b"', "123"),
        ('NOT display_name="my_job_a"', "23"),
        ('create_time>"2021-05-18T00:00:00Z"', "3"),
        ("labels.keyA=valueA", "1"),
        ("labels.keyB:*", "2"),
        ("create_time >= 2021-05-18T02:00:00+02:00", "23"),
        ('createTime<"2021-05-18T00:00:00Z"', "1"),
        ('create_time<="2021-05-17T23:59:59.999999998Z"', ""),
        ('create_time<="2021-05-18T00:00:00Z"', "12"),
        ('create_time="2021-05-18T00:00:00.000Z"', "2"),
        ('create_time!="2021-05-18T00:00:00Z"', "13"),
        ('model_display_name="model of 2"', "2"),
        ('display_name:"*job*b"', "2"),
        ('display_name:"my*a"', "1"),
        ('display_name:"other"', "3"),
        (r'display_name:"\*"', ""),
        ("state=JOB_STATE_FAILED", "2"),
    ],
)
def test_batch_jobs_are_filtered_as_documented(text, expected):
    fields = batch_prediction_jobs(lambda found: f"model of {found.name[-1]}")
    assert ids(listed(JOBS, text, fields)[0]) == set(expected)


def test_a_model_is_found_by_its_id_and_base_model():
    models = [model("1@2", "a"), model("m2", "b")]
    models[1].base_model_source.model_garden_source.public_model_name = "publishers/google/models/text-bison"
    assert listed(models, "model=1", MODELS)[0] == [models[0]]
    assert listed(models, 'model!="1"', MODELS)[0] == [models[1]]
    assert listed(models, 'baseModelName="text-bison"', MODELS)[0] == [models[1]]


def test_versions_are_told_apart_and_ordered_by_their_own_time():
    versions = [model(1, version=version, created=created) for version, created in (("1", 5), ("2", 9), ("3", 9))]
    shown, token = listed(versions, "", MODEL_VERSIONS, page_size=2)
    assert [found.version_id for found in shown] == ["2", "3"]
    assert [found.version_id for found in listed(versions, "", MODEL_VERSIONS, page_token=token)[0]] == ["1"]
    one_by_one = all_pages(versions, fields=MODEL_VERSIONS, page_size=1)  # two of them have the same name and time
    assert [found.version_id for shown in one_by_one for found in shown] == ["2", "3", "1"]
    ascending = listed(versions, "", MODEL_VERSIONS, order_by="create_time asc")[0]
    assert [found.version_id for found in ascending] == ["1", "2", "3"]


def test_operations_are_filtered_by_done():
    operations = [Operation(name="b", done=True), Operation(name="a")]
    assert listed(operations, "done=true", OPERATIONS)[0] == [operations[0]]
    assert listed(operations, "done!=true", OPERATIONS)[0] == [operations[1]]
    assert [found.name for found in listed(operations, "", OPERATIONS)[0]] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        (
            "colour=red",
            1,
            '"colour" cannot be filtered by; these can be: base_model_name, display_name, endpoint, labels',
        ),
        ('endpoint=1 AND state="x"', 16, '"state" cannot be filtered by'),
        ("display_name.x=1", 1, '"display_name.x" cannot be filtered by'),
        ('display_name="x', 14, 'the text that begins with " does not end'),
        ('display_name=!"old_endpoint"', 14, '"is not" is written !='),  # so in the SDK's own docstrings
        ('display_name>"x"', 1, '"display_name" takes = !=, not ">"'),
        ("display_name", 1, "no comparison"),
        ("endpoint=1 and endpoint=2", 12, "the operator is written AND"),
        ("endpoint=", 10, "a value is expected"),
        ("endpoint=1 AND", 15, "the name of a field is expected"),
        ("(endpoint=1", 12, 'a ")" is missing'),
        ("endpoint=1)", 11, '")" is not expected'),
        ("labels=prod", 1, "labels.KEY=VALUE"),
        ("labels.env>1", 1, 'labels take = != :, not ">"'),
        (r'display_name="a\n"', 16, r'"\n" is no escape'),
        ("(" * 40 + "endpoint=1" + ")" * 40, 34, "more than 32 parentheses"),
        ("NOT NOT endpoint=1", 5, "no comparison"),
    ],
)
def test_a_wrong_filter_is_refused_with_place_and_reason(text, place, why):
    message = refusal(ENDPOINT_LIST, text)
    assert f"at character {place}, " in message
    assert why in message


@pytest.mark.parametrize(
    "text", ["state=DONE", "create_time>2021-02-30T00:00:00Z", "create_time>1", "create_time>2021-05-18"]
)
def test_a_wrong_value_is_refused_even_where_there_is_nothing_to_list(text):
    assert text.replace(">", "=").partition("=")[2] in refusal([], text, batch_prediction_jobs(str))


def test_job_states_are_those_of_the_service():
    assert set(JOB_STATES) == set(types.JobState.__members__)


# One key at a time is compared with a plain model of the language.

TEXTS = st.text(alphabet="ab*\"\\ '", max_size=4)
KEYS = st.sampled_from(["k", "a key", "x-y"])


def quoted(text):
    return '"' + "".join(f"\\{char}" if char in '"\\*' else char for char in text) + '"'


@st.composite
def restrictions(draw):
    """A restriction's text and what it means."""
    value = draw(TEXTS)
    equal = draw(st.booleans())
    operator = ("=" if equal else "!=").join(draw(st.sampled_from([("", ""), (" ", " ")])))
    which = draw(st.sampled_from(["name", "label", "has", "id"]))
    if which == "name":
        field = draw(st.sampled_from(["display_name", "displayName"]))
        return f"{field}{operator}{quoted(value)}", lambda e: (e.display_name == value) is equal
    if which == "id":
        number = draw(st.sampled_from("123"))
        return f"endpoint{operator}{number}", lambda e: e.name.endswith(f"/{number}") is equal
    key = draw(KEYS)
    if which == "has":
        text = draw(st.sampled_from(["labels:{}", "labels.{}:*", 'labels.{}:"*"'])).format(quoted(key))
        return text, lambda e: key in dict(e.labels)
    return f"labels.{quoted(key)}{operator}{quoted(value)}", lambda e: (dict(e.labels).get(key) == value) is equal


def combined(children):
    def negated(child):
        text, means = child
        return st.sampled_from([f"NOT ({text})", f"-({text})"]).map(lambda made: (made, lambda e: not means(e)))

    def joined(parts):
        texts, means = zip(*parts, strict=True)
        both = st.sampled_from([" AND ", " "]).map(
            lambda word: (word.join(f"({text})" for text in texts), lambda e: all(each(e) for each in means))
        )
        either = st.just((" OR ".join(f"({text})" for text in texts), lambda e: any(each(e) for each in means)))
        return both | either

    return children.flatmap(negated) | st.lists(children, min_size=2, max_size=3).flatmap(joined)


FILTERS = st.recursive(restrictions(), combined, max_leaves=6)
ENDPOINTS_LIKE = st.builds(
    lambda number, name, labels: endpoint(number, name, **labels),
    st.sampled_from("123"), TEXTS, st.dictionaries(KEYS, TEXTS, max_size=2),
)  # fmt: skip


@given(FILTERS, ENDPOINTS_LIKE)
def test_a_filter_means_what_its_parts_mean(filter_, message):
    text, means = filter_
    assert predicate(text, ENDPOINTS.fields)(message) is means(message)


PIECES = st.sampled_from([
    *("endpoint", "display_name", "labels", "labels.k", "state", "create_time", "AND", "OR", "NOT", "-", "(", ")"),
    *("=", "!=", ":", "<", "*", '"', "'", "\\", ".", " ", "x", '"x"', "2021-05-18T00:00:00Z", "\x00", "é", "!", ","),
])  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=30))
def test_whatever_the_filter_it_is_taken_or_refused(text):
    try:
        passes = predicate(text, batch_prediction_jobs(str).fields)
    except ApiError as error:
        assert error.code is Code.INVALID_ARGUMENT
    else:
        assert passes(JOBS[0]) in {True, False}


@given(st.text(alphabet="ab*", max_size=8), st.text(alphabet="ab", max_size=8))
@example("a*a", "a")
def test_a_wildcard_stands_for_any_characters(pattern, text):
    import fnmatch

    one = job(1, text, 0, "2021-01-01T00:00:00Z")
    found = listed([one], f'display_name:"{pattern}"', batch_prediction_jobs(str))[0]
    assert bool(found) is fnmatch.fnmatchcase(text, pattern)


def test_a_hostile_pattern_takes_no_time():
    pattern, name = "*a" * 2000 + "*b", "a" * 20000
    assert listed(
        [job(1, name, 0, "2021-01-01T00:00:00Z")], f'display_name:"{pattern}"', batch_prediction_jobs(str)
    ) == ([], "")


# Order and pages.

ENTRIES = st.lists(
    st.tuples(st.integers(0, 999), st.sampled_from("abé"), st.integers(0, 3), st.integers(0, 3)),
    max_size=12, unique_by=lambda entry: entry[0],
).map(lambda entries: [endpoint(*entry) for entry in entries])  # fmt: skip
ORDERS = st.sampled_from([
    *("", "create_time", "create_time desc", "display_name, create_time desc", "updateTime desc,displayName asc"),
    "display_name desc , update_time,create_time desc",
])  # fmt: skip


def all_pages(messages, between=lambda page_number: None, **options):
    token, pages = "", []
    while token or not pages:
        shown, token = listed(messages, page_token=token, **options)
        pages.append(shown)
        between(len(pages))
    return pages


@given(ENTRIES, ORDERS, st.integers(1, 13))
def test_pages_joined_are_the_whole_list(entries, order, size):
    whole, token = listed(entries, order_by=order)
    assert token == ""
    pages = all_pages(entries, order_by=order, page_size=size)
    assert [found for shown in pages for found in shown] == whole
    assert all(len(shown) == size for shown in pages[:-1])
    assert pages[-1] or not entries
    assert ids(whole) == ids(entries)


@given(ENTRIES)
def test_the_order_is_that_asked_for(entries):
    found = listed(entries, order_by="display_name desc, create_time")[0]
    by_time = sorted(entries, key=lambda e: (e.create_time.ToNanoseconds(), e.name))
    assert found == sorted(by_time, key=lambda e: e.display_name, reverse=True)


@given(ENTRIES, ORDERS, st.integers(1, 4), st.data())
def test_what_comes_and_goes_between_pages_disturbs_nothing_else(entries, order, size, data):
    """Offsets would show an entry twice, or leave one out."""
    messages = list(entries)
    gone: set[str] = set()

    def change(page_number):
        if messages:
            gone.add(messages.pop(data.draw(st.integers(0, len(messages) - 1))).name)
        messages.append(endpoint(1000 + page_number, "b", page_number % 4))

    pages = all_pages(messages, change, order_by=order, page_size=size)
    names = [found.name for shown in pages for found in shown]
    assert len(names) == len(set(names))
    assert {message.name for message in entries} - gone <= set(names)


def test_without_an_order_the_newest_comes_first():
    entries = [endpoint(1, created=1), endpoint(2, created=3), endpoint(3, created=2)]
    assert [found.name[-1] for found in listed(entries)[0]] == ["2", "3", "1"]


def test_without_a_size_a_page_has_the_default_size():
    entries = [endpoint(number) for number in range(7)]
    assert len(listed(entries, page_size=0, default_page_size=3)[0]) == 3
    assert len(listed([endpoint(number) for number in range(101)], page_size=0)[0]) == 100


def test_a_token_is_for_its_own_filter_order_and_parent():
    entries = [endpoint(number) for number in range(3)]
    token = listed(entries, page_size=1, scope="a")[1]
    assert listed(entries, page_token=token, scope="a", page_size=5)[0] == entries[1:]
    for other in ({"filter": "endpoint!=9"}, {"order_by": "create_time"}, {"scope": "b"}):
        assert "another parent, filter or order" in refusal(entries, page_token=token, **{"scope": "a", **other})


def forged(*values):
    query = json.loads(base64.urlsafe_b64decode(listed([endpoint(1), endpoint(2)], page_size=1)[1]))[0]
    return base64.urlsafe_b64encode(json.dumps([query, *values]).encode()).decode()


@pytest.mark.parametrize("make", [
    lambda: "x", lambda: "é", lambda: "AAAA", lambda: forged(), lambda: forged(1), lambda: forged([]),
    lambda: forged(["a", "b"]), lambda: forged([True, "b"]), lambda: forged({"a": 1, "b": 2}),
    lambda: base64.b64encode(b"[" * 100_000).decode(),
])  # fmt: skip
def test_a_foreign_token_is_refused(make):
    assert "page token" in refusal(ENDPOINT_LIST, page_token=make())


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_no_token_crashes(token):
    if token:
        refusal(ENDPOINT_LIST, page_token=token)


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ("name", '"name" is no field to order by; these are: display_name, create_time, update_time'),
        ("create_time down", "asc or desc"),
        ("create_time desc asc", "asc or desc"),
        ("create_time,", '"" is no field'),
        ("create_time, createTime", "twice"),
    ],
)
def test_a_wrong_order_is_refused(order, why):
    assert why in refusal(ENDPOINT_LIST, order_by=order)


def test_a_negative_size_is_refused():
    assert "page_size is -1" in refusal(ENDPOINT_LIST, page_size=-1)


def test_a_read_mask_leaves_the_rest_out():
    shown = listed(ENDPOINT_LIST, "endpoint=1", read_mask=FieldMask(paths=["displayName", "labels.env"]))[0]
    assert shown == [types.Endpoint.pb()(display_name="iris", labels={"env": "prod"})]
    assert ENDPOINT_LIST[0].name
    assert 'no field "colour"' in refusal(ENDPOINT_LIST, read_mask=FieldMask(paths=["colour"]))


def test_without_a_read_mask_nothing_is_copied():
    assert listed(ENDPOINT_LIST, "endpoint=1")[0][0] is ENDPOINT_LIST[0]
