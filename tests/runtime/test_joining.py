"""What may be joined, and that joining and splitting lose nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.runtime import rows
from cpr_kit.runtime.serializer import Body


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros((1, 4)), np.zeros((1, 5))),
        (np.zeros((1, 4)), np.zeros((1, 4), np.float32)),
        (np.zeros((1, 4)), np.zeros((1, 2, 2))),
        ([[1, 2]], [[1, 2, 3]]),
        ([[1, 2]], [[1.0, 2]]),
        ([1], [True]),
        ([1], ["1"]),
        ([1], [None]),
        ([1], [{"a": 1}]),
        ([{"a": 1}], [{"b": 1}]),
        (Body(instances=[1]), Body(instances=[1], parameters={"k": 1})),
        (Body(instances=[1], parameters={"k": 1}), Body(instances=[1], parameters={"k": 2})),
        (Body(instances=[1]), {"instances": [1]}),
        ({"x": np.zeros((1, 2))}, {"y": np.zeros((1, 2))}),
        ({"x": np.zeros((1, 2))}, {"x": np.zeros((1, 3))}),
        (np.array([["a", 1]], object), np.array([[1, "a"]], object)),
    ],
)
def test_different_parameters_shapes_and_types_are_never_joined(one, other):
    assert rows.key(one) != rows.key(other)


@pytest.mark.parametrize(
    "value",
    [
        None, 1, "text", object(), [], [1, 2.5], [[1], [1, 2]], [2**63], np.float64(1), np.zeros(()), {},
        {"x": np.zeros(2), "y": np.zeros(3)}, {"x": np.zeros(())}, {"x": [1]},
        Body(instances=[1], parameters={"k": object()}), Body(instances="text"), Body(instances=[]), [1] * 1000,
    ],
)  # fmt: skip
def test_what_may_change_anothers_answer_goes_alone(value):
    assert rows.key(value) is None


PARAMETERS = st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
CELLS = st.one_of(st.integers(-5, 5), st.floats(-5, 5), st.text(max_size=2), st.booleans(), st.none())
ROW = st.one_of(CELLS, st.lists(CELLS, max_size=3), st.dictionaries(st.sampled_from("ab"), CELLS, max_size=2))
LISTS = st.lists(ROW, max_size=4)
REQUESTS = st.builds(lambda i, p: Body(instances=i, **({"parameters": p} if p else {})), LISTS, PARAMETERS)
ARRAYS = st.builds(
    lambda n, w, kind: np.arange(n * w, dtype=kind).reshape(n, w),
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from(["f8", "f4", "i8"]),
)
COLUMNS = st.dictionaries(st.sampled_from("xy"), ARRAYS, max_size=2)


def same(one, other):
    if isinstance(one, dict):
        return type(one) is type(other) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return repr(one) == repr(other)


@given(st.lists(st.one_of(REQUESTS, LISTS, ARRAYS, COLUMNS), min_size=1, max_size=6))
def test_what_is_joined_comes_apart_as_it_was(values):
    groups = {}
    for value in values:
        key = rows.key(value)
        if key is not None:
            groups.setdefault(key, []).append(value)
    for group in groups.values():
        joined, counts = rows.join(group), [rows.count(value) for value in group]
        answer = {"predictions": joined["instances"], "n": 1} if isinstance(joined, Body) else joined
        parts = rows.split(answer, counts)
        for value, part in zip(group, parts, strict=True):
            assert same(part["predictions"], value["instances"]) if isinstance(joined, Body) else same(part, value)


@pytest.mark.parametrize(
    "answer", [None, 3, "ab", (1, 2), [1], np.zeros(3), np.float64(2), {"predictions": [1]}, (x for x in "ab")]
)
def test_an_answer_without_one_entry_a_row_cannot_be_split(answer):
    with pytest.raises(rows.Unsplittable):
        rows.split(answer, [1, 1])


def test_joining_leaves_the_requests_as_they_were():
    one, other = Body(instances=[1], parameters={}), Body(instances=[2], parameters={})
    rows.join([one, other])
    assert (one["instances"], other["instances"]) == ([1], [2])
