"""Held against json_format, whose rules these are."""

from __future__ import annotations

import json

import orjson
import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.emulator.predict.values import (
    MAX_DEPTH,
    NotAValue,
    as_floats,
    from_json,
    list_from_json,
    list_to_json,
    to_json,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | texts | numbers
# Long lists of numbers go another way than short ones and than mixed ones.
long_lists = st.lists(numbers, min_size=16, max_size=40) | st.lists(numbers | st.booleans(), min_size=16, max_size=40)
documents = st.recursive(
    scalars | long_lists,
    lambda below: st.lists(below, max_size=5) | st.dictionaries(texts, below, max_size=5),
    max_leaves=30,
)


def shape(value):
    """Equal only for equal types too: 1, 1.0 and True are three things here."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value), value


@given(documents)
def test_a_value_is_the_one_that_json_format_makes(document):
    assert from_json(document) == json_format.Parse(json.dumps(document), struct_pb2.Value())


@given(documents)
def test_json_is_that_of_json_format(document):
    value = json_format.Parse(json.dumps(document), struct_pb2.Value())
    assert shape(to_json(value)) == shape(json_format.MessageToDict(value))


@given(documents)
def test_floats_are_what_comes_out_of_a_value(document):
    parsed = orjson.loads(json.dumps(document))
    assert shape(as_floats(parsed)) == shape(to_json(from_json(parsed)))


@given(st.lists(documents, max_size=2) | long_lists)
def test_lists(items):
    message = list_from_json(items)
    assert message == json_format.Parse(json.dumps(items), struct_pb2.ListValue())
    assert shape(list_to_json(message)) == shape(json_format.MessageToDict(message))


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, 1.0), (2**53 + 1, 9007199254740992.0), (True, True), ({"a": [1, None, "1"]}, {"a": [1.0, None, "1"]})],
)
def test_what_a_value_does_to_numbers(before, after):
    assert shape(as_floats(before)) == shape(after)


def test_elements_of_the_length_of_a_number_are_no_numbers():
    """A text of seven letters takes the eleven bytes that a number takes."""
    mixed = [*map(float, range(20)), "letters", "letters"]
    assert list_to_json(list_from_json(mixed)) == mixed


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_json_for_numbers_that_json_lacks(number, count):
    message = struct_pb2.Value()
    for _ in range(count):
        message.list_value.values.add().number_value = number
    with pytest.raises(NotAValue, match="no number of JSON"):
        to_json(message)


@pytest.mark.parametrize("wrap", [lambda below: [below], lambda below: {"a": below}])
def test_nesting_has_an_end(wrap):
    document: object = "x"
    for _ in range(MAX_DEPTH):
        document = wrap(document)
    assert as_floats(document) == document
    assert to_json(from_json(document)) == document
    deeper = wrap(document)
    message = struct_pb2.Value()
    inner = message
    for _ in range(MAX_DEPTH + 1):
        inner = inner.list_value.values.add()
    for walk in (lambda: as_floats(deeper), lambda: from_json(deeper), lambda: to_json(message)):
        with pytest.raises(NotAValue, match="deeper than 100"):
            walk()
