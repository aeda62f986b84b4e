import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.harness.difference import difference

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_a_value_equals_itself(value):
    assert difference(value, value) is None


@given(JSON, JSON)
def test_a_difference_is_found_from_both_sides(one, other):
    assert bool(difference(one, other)) == bool(difference(other, one))


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1.0, 1.0000005), (0.0, 1e-7), ([], []), ({"a": [1]}, {"a": [1.0]})]
)
def test_numbers_within_the_tolerance_are_equal(one, other):
    assert difference(one, other) is None


@pytest.mark.parametrize(
    ("expected", "got", "said"),
    [
        (1, 1.001, "$: expected 1, got 1.001"),
        (True, 1, "$: expected True, got 1"),
        ([1], [1, 2], "$: expected 1 items, got 2"),
        ({"a": 1}, {"b": 1}, "$: expected the keys ['a'], got ['b']"),
        ({"a": [0, "x"]}, {"a": [0, "y"]}, "$.a[1]: expected 'x', got 'y'"),
        ([1], {"0": 1}, "$: expected [1], got {'0': 1}"),
    ],
)
def test_a_difference_is_said_with_its_path(expected, got, said):
    assert difference(expected, got) == said
