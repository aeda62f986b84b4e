"""Instances against what a model declares: the array it gets, or the words its caller gets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cpr_kit.errors import MissingField, RequestError
from cpr_kit.runtime.codecs.codec import Body
from cpr_kit.runtime.instances import array, of
from cpr_kit.runtime.signature import Signature

NAN, INF = float("nan"), float("inf")
NAMED = Signature(names=("width", "length"))
MISSING = Signature(allow_missing=True)
NUMBERS = Signature(dtype="float64")

finite = st.floats(allow_nan=False, allow_infinity=False)


def refusal(values, signature=None, **options):
    with pytest.raises(RequestError) as error:
        array(values, signature=signature or Signature(), **options)
    assert error.value.status_code == 400
    return str(error.value)


def test_the_instances_of_a_request():
    assert of({"instances": None}) is None
    assert of(Body(instances=[1])) == [1]
    with pytest.raises(MissingField, match='no "instances"'):
        of(Body(inputs=[]))
    for value, kind in (([], "a list"), (None, "null"), ("x", "text"), (5, "a number"), (True, "true or false")):
        with pytest.raises(RequestError, match=f"not {kind}"):
            of(value)


@given(npst.arrays(np.float64, npst.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=finite))
def test_lists_and_arrays_of_numbers_are_the_same(rows):
    for values in (rows, rows.tolist(), [tuple(row) for row in rows.tolist()], list(rows), [list(row) for row in rows]):
        found = array(values, signature=Signature(features=rows.shape[1]))
        assert found.dtype == np.float64
        assert np.array_equal(found, rows)


def test_a_good_array_is_not_copied():
    for rows in (np.ones((1, 4)), np.ones((100, 100))):
        assert array(rows, features=rows.shape[1]) is rows


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "int64", "float16", "float32", ">f8", "<i4"])
def test_arrays_of_any_number_are_float64(dtype):
    found = array(np.ones((2, 3), dtype))
    assert found.dtype == np.float64
    assert found.tolist() == [[1, 1, 1]] * 2


def test_arrays_of_objects_and_text_are_as_their_lists():
    rows = array(np.array([["red", 1], ["blue", 2.5]], dtype=object))
    assert rows.dtype == object
    assert rows.tolist() == [["red", 1], ["blue", 2.5]]
    assert array(np.array([[1, 2.5]], dtype=object)).dtype == np.float64
    assert array(np.array([["a", "b"]])).tolist() == [["a", "b"]]
    assert "instance 0 holds null at value 1" in refusal(np.array([[1, None]], dtype=object))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, '"instances" must be a list with at least one instance'),
        ({}, "at least one instance"),
        ({"a": [1]}, "must be a list"),
        ([], "at least one instance"),
        ("abc", "must be a list"),
        (b"abc", "must be a list"),
        (5, "must be a list"),
        (np.zeros((0, 4)), "at least one instance"),
        (np.zeros((0, 4), object), "at least one instance"),
        ([[]], "instance 0 has 0 values; at least one are wanted"),
        ([[], [1]], "instance 0 has 0 values"),
        (np.zeros((2, 0)), "instance 0 has 0 values"),
        ([[1, 2], [1]], "instance 1 has 1 values; 2 are wanted"),
        ([1, 2], "instance 0 must be a list of values, not a number"),
        ([[1], 2], "instance 1 must be a list of values, not a number"),
        ([[1], "2"], "instance 1 must be a list of values, not text"),
        ([[1], None], "instance 1 must be a list of values, not null"),
        ([{"a": 1}], "instance 0 must be a list of values, not an object"),
        ([[1, None]], "instance 0 holds null at value 1, where a value is wanted"),
        ([["x", {"a": 1}]], "instance 0 holds an object at value 1"),
        ([["x", b"y"]], "instance 0 holds bytes at value 1"),
        ([[[1], [2]]], "flat list of values; instance 0 holds lists"),
        ([[1, 2], [1, [2]]], "instance 1 holds a list at value 1; its values have different shapes"),
        ([[1, 2], [NAN, 1]], "instance 1 holds a number that is not finite, at value 0"),
        ([[1, -INF]], "instance 0 holds a number that is not finite, at value 1"),
        ([["x", NAN]], "instance 0 holds a number that is not finite, at value 1"),
        (np.array([[1.0, NAN]]), "not finite, at value 1"),
        (np.array([1.0, 2.0]), "flat list of values; these are a number"),
        (np.zeros((1, 2, 3)), "flat list of values; these are lists of lists"),
        (np.float64(5), "must be a list"),
        ([[10**400]], "beyond the range of float64"),
    ],
)
def test_wrong_instances_are_named(values, message):
    assert message in refusal(values)


@pytest.mark.parametrize("values", [[[1, 2, 3]], np.ones((1, 3)), np.array([["x"] * 3], object)])
def test_another_count_of_features_is_named(values):
    assert refusal(values, features=4) == "instance 0 has 3 values; 4 are wanted"
    assert refusal(values, Signature(features=4)) == "instance 0 has 3 values; 4 are wanted"
    assert array(values, signature=Signature(features=4), features=3).shape == (1, 3)


def test_numbers_beyond_the_sum_of_squares_are_finite_all_the_same():
    """The quick check overflows on them."""
    rows = np.full((2, 2), 1e300)
    assert array(rows, features=2) is rows
    assert array(rows.tolist()).tolist() == rows.tolist()


@given(st.integers(0, 9), st.integers(0, 999), st.sampled_from([NAN, INF, -INF]))
def test_no_number_that_is_not_finite_gets_through_however_big_the_request(row, column, value):
    for shape in ((10, 1000), (10, 3)):
        rows = np.ones(shape)
        rows[row, column % shape[1]] = value
        for features in (None, shape[1]):
            said = refusal(rows, features=features)
            assert f"instance {row} holds a number that is not finite, at value {column % shape[1]}" in said
        assert f"instance {row} holds" in refusal(rows.tolist())


def test_missing_values_where_the_model_takes_them():
    for values in ([[1, None], [NAN, 2]], np.array([[1, NAN], [NAN, 2]]), np.array([[1, None], [None, 2]], object)):
        assert np.array_equal(array(values, signature=MISSING), [[1, NAN], [NAN, 2]], equal_nan=True)
    text = array([["x", None]], signature=MISSING)
    assert text[0, 0] == "x"
    assert np.isnan(text[0, 1])
    for values in ([[1, INF]], np.array([[1, INF]]), [["x", INF]]):
        assert "not finite, at value 1" in refusal(values, MISSING)


def test_objects_are_put_in_the_models_order():
    values = [{"length": 2, "width": 1}, {"width": 3, "length": 4}]
    assert array(values, signature=NAMED).tolist() == [[1, 2], [3, 4]]
    assert array([[1, 2]], signature=NAMED).tolist() == [[1, 2]]
    assert array([{"a": 5}], signature=Signature(names=("a",))).tolist() == [[5]]
    assert array([{"length": "x", "width": 1}], signature=NAMED).tolist() == [[1, "x"]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([{"width": 1, "length": 2}, {"width": 1}], 'instance 1 has no "length"'),
        ([{}], 'instance 0 has no "width", "length"'),
        (
            [{"width": 1, "length": 2, "hunter": 2}],
            'instance 0 has 1 name that the model does not know; it takes "width", "length"',
        ),
        ([{"width": 1, "length": 2, "hunter": 2, "x": 1}], "instance 0 has 2 names"),
        ([{"width": 1, "length": 2}, [1, 2]], "instance 1 must be an object, as the first is, not a list"),
        ([[1, 2], {"width": 1, "length": 2}], "instance 0 must be an object"),
        ([{"width": None, "length": 2}], "instance 0 holds null at value 0"),
        ([[1]], "instance 0 has 1 values; 2 are wanted"),
    ],
)
def test_wrong_names_are_told_by_the_models_own(values, message):
    said = refusal(values, NAMED)
    assert message in said
    assert "hunter" not in said


def test_a_wide_models_names_are_cut_off():
    said = refusal([{}], Signature(names=tuple(f"column {number}" for number in range(1000))))
    assert "and 980 more" in said
    assert len(said) < 400


def test_a_model_of_one_feature_takes_bare_values():
    one = Signature(features=1)
    for values in ([1, 2.5], [[1], [2.5]], np.array([1, 2.5]), np.array([[1], [2.5]])):
        assert array(values, signature=one).tolist() == [[1], [2.5]]
    assert array(["red", "blue"], signature=one).tolist() == [["red"], ["blue"]]
    assert "instance 1 must be a list" in refusal([[1], 2], one)
    assert "holds null" in refusal([None], one)
    assert "must be a list of values" in refusal([1, 2])


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([[1, "2"]], "float64", "instance 0 holds text at value 1, where a number is wanted"),
        (np.array([["x"]], object), "float32", "instance 0 holds text at value 0, where a number is wanted"),
        ([[1, 1e39]], "float32", "instance 0 holds a number at value 1 that is no float32"),
        ([[1.5]], "int64", "instance 0 holds a number at value 0 that is no int64"),
        ([[1], [2**53 + 1]], "int64", "instance 1 holds a number at value 0 that is no int64"),
        ([[300]], "uint8", "that is no uint8"),
        ([[-1]], "uint64", "that is no uint64"),
        ([[2]], "bool", "that is no bool"),
    ],
)
def test_values_that_the_models_type_does_not_have(values, dtype, message):
    assert message in refusal(values, Signature(dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool", "object"])
def test_the_array_has_the_models_type(dtype):
    for values in ([[1, 0]], np.array([[1.0, 0]]), np.array([[True, False]])):
        found = array(values, signature=Signature(dtype=dtype, features=2))
        assert found.dtype == np.dtype(dtype)
        assert found.tolist() == [[1, 0]]


def test_missing_values_of_a_narrow_type():
    found = array([[None, 1]], signature=Signature(dtype="float32", allow_missing=True))
    assert found.dtype == np.float32
    assert np.isnan(found[0, 0])
    assert "no int64" in refusal([[None, 1]], Signature(dtype="int64", allow_missing=True))


def test_long_text_beside_short_text_takes_no_more_memory_than_itself():
    """numpy's own text has one width for all, which would make gigabytes of this."""
    rows = array([["x" * 1_000_000]] + [["y"]] * 50_000)
    assert rows.dtype == object
    assert rows.shape == (50_001, 1)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["width", "length", "a"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(values, st.sampled_from([Signature(), NAMED, MISSING, NUMBERS, Signature(features=1), Signature(dtype="int32")]))
def test_any_value_is_an_array_or_the_callers_mistake(value, signature):
    try:
        found = array(value, signature=signature)
    except RequestError as error:
        assert error.status_code == 400
    else:
        assert found.ndim == 2
        assert found.shape[0] == len(value)
        assert signature.features in (None, found.shape[1])
        if signature.dtype:
            assert found.dtype == np.dtype(signature.dtype)
