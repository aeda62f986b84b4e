"""What is counted, flipped and ranked, of rows that were taken apart; and the verdict over it."""

import json
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cpr_kit.compare import asking, verdict
from cpr_kit.compare.figures import figures, row
from cpr_kit.compare.requests import Request
from cpr_kit.compare.verdict import Limits
from cpr_kit.errors import UsageError

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**20), 10**20)
anything = st.recursive(
    st.none() | st.booleans() | st.text(max_size=4) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30)
few = settings(max_examples=40)


def rows(a, b):
    return [
        row(one, other, where=f"row {index}", request="r", instance=index)
        for index, (one, other) in enumerate(zip(a, b, strict=True))
    ]


def of(a, b, **options):
    return figures(rows(a, b), **options)


@few
@given(st.lists(anything, min_size=1, max_size=8))
def test_whatever_is_compared_with_itself_is_the_same(values):
    found = of(values, values)
    assert (found.rows, found.unlike, found.flips, found.max_absolute) == (len(values), 0, 0, 0)
    assert (found.max_relative, found.mean_absolute, found.mean_relative) == (0, 0, 0)


@few
@given(st.lists(st.tuples(anything, anything), min_size=1, max_size=8))
def test_which_side_is_which_does_not_matter(values):
    one, other = of(*zip(*values, strict=True)), of(*reversed(list(zip(*values, strict=True))))
    for name in ("rows", "unlike", "numbers", "flips", "classes", "max_absolute", "mean_absolute", "max_relative"):
        assert getattr(one, name) == getattr(other, name), name


@few
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(values, random):
    shuffled = random.sample(values, len(values))
    one, other = of(*zip(*values, strict=True)), of(*zip(*shuffled, strict=True))
    assert (one.max_absolute, one.flips, one.mean_absolute) == (other.max_absolute, other.flips, other.mean_absolute)
    assert one.mean_absolute <= one.max_absolute
    assert one.mean_relative <= one.max_relative <= 2
    ranked = [each.absolute for each in one.differences if not each.flipped]
    assert ranked == sorted(ranked, reverse=True)


@few
@given(pairs, st.sampled_from([0.25, 2.0, 64.0]))
def test_a_relative_difference_does_not_depend_on_the_unit(values, unit):
    assume(all(abs(x) > 1e-200 or x == 0 for each in values for x in each))
    assume(all(abs(x) < 1e300 for each in values for x in each))
    a, b = zip(*values, strict=True)
    scaled = of([float(x) * unit for x in a], [float(x) * unit for x in b])
    assert math.isclose(
        of([float(x) for x in a], [float(x) for x in b]).max_relative, scaled.max_relative, rel_tol=1e-9
    )


@pytest.mark.parametrize(
    ("a", "b", "flips", "classes"),
    [
        ([[0.9, 0.1], [0.4, 0.6]], [[0.8, 0.2], [0.6, 0.4]], 1, 2),  # scores
        ([[2.5, -1.5]], [[-2.5, 1.5]], 1, 1),  # logits
        ([[0.5, 0.5]], [[0.4, 0.6]], 0, 1),  # a tie may break either way
        ([0.49, 0.51], [0.51, 0.52], 1, 2),  # probabilities
        ([[0.49], [0.9]], [[0.51], [0.9]], 1, 2),  # each in a list of its own
        ([0.49, 1.3], [0.51, 1.3], 0, 0),  # values: one of them is no probability
        ([0, 2, 1], [0.0, 1.0, 1.0], 1, 3),  # class numbers, and :predict's floats of them
        ([[3, 1], [2, 1]], [[3, 1], [2, 3]], 1, 2),  # lists of class numbers: no scores
        (["cat", "dog"], ["cat", "cat"], 1, 2),
        ([True], [False], 1, 1),
        ([{"label": "cat", "score": 0.4}], [{"label": "dog", "score": 0.4}], 1, 1),
        ([{"cat": 0.4, "dog": 0.35, "cow": 0.25}], [{"cat": 0.35, "dog": 0.4, "cow": 0.25}], 1, 1),  # by name
        ([{"height": 3.2, "width": 1.1}], [{"height": 1.1, "width": 3.2}], 0, 0),  # names, but no distribution
        ([[[0.9, 0.1], [0.4, 0.6]]], [[[0.9, 0.1], [0.6, 0.4]]], 1, 1),  # scores within a row
        ([None], [None], 0, 0),
    ],
)
def test_what_another_class_is(a, b, flips, classes):
    found = of(a, b)
    assert (found.flips, found.classes, found.unlike) == (flips, classes, 0)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([[1, 2]], [[1, 2, 3]], "$: A has 2 items, B has 3"),
        ([{"x": 1, "y": 2}], [{"x": 1, "z": 2}], '$: A alone has "y", B alone has "z"'),
        ([{"x": [1, "a"]}], [{"x": [1, 2]}], "$.x[1]: A has a text, B has a number"),
        ([1], [None], "$: A has a number, B has null"),
        ([True], [1], "$: A has a boolean, B has a number"),
        ([math.nan], [1.5], "$: A has NaN, B has 1.5"),
        ([math.inf], [-math.inf], "$: A has Infinity, B has -Infinity"),
    ],
)
def test_another_form_is_named_with_its_place(a, b, words):
    found = of(a, b)
    assert (found.rows, found.unlike, found.differences[0].fault) == (0, 1, words)
    judged = verdict.judge(found, (), (), Limits())
    assert not judged.passed
    assert words in judged.reasons[0]


def test_without_classes_another_text_is_another_form():
    found = of([["cat", 0.6], ["cow", 0.4]], [["dog", 0.6], ["cow", 0.6]], classes=False)
    assert (found.rows, found.unlike, found.flips, found.classes) == (1, 1, 0, 0)
    assert found.differences[0].fault == '$[0]: A has "cat", B has "dog"'


def test_the_same_infinity_is_no_difference_and_leaves_the_mean_alone():
    found = of([math.nan, math.inf, 1.0], [math.nan, math.inf, 1.5])
    assert (found.unlike, found.numbers, found.mean_absolute) == (0, 1, 0.5)


def test_the_worst_rows_come_first():
    found = of([[0.6, 0.4], [0.9, 0.1], [0.51, 0.49], "x"], [[0.6, 0.4], [0.6, 0.4], [0.49, 0.51], [1]])
    assert [each.where for each in found.differences] == ["row 3", "row 2", "row 1", "row 0"]
    flipped, apart = found.differences[1:3]
    assert (flipped.a, flipped.b, flipped.flipped, round(flipped.absolute, 9)) == (
        [0.51, 0.49],
        [0.49, 0.51],
        True,
        0.02,
    )
    assert (apart.path, apart.a, apart.b) == ("$[0]", 0.9, 0.6)


def test_what_is_beyond_a_float_is_still_json():
    found = of([1.7e308, 10**290], [-1.7e308, -(10**290)])
    assert json.loads(json.dumps(found.max_absolute, allow_nan=False)) == found.max_absolute
    assert asking.parsed(b"[1" + b"0" * 5000 + b"]") == [math.inf]


def compared(a, b, content=None):
    request = Request(name="line 4", body=b"", instances=("line 4", "line 5"))
    return asking.rows_of(request, *(json.dumps(each).encode() if content is None else each for each in (a, b)))


def test_rows_are_found_in_each_form_of_a_reply():
    assert [each.where for each in compared({"predictions": [1, 2]}, {"predictions": [1, 2], "model": "m"})] == [
        "line 4",
        "line 5",
    ]
    assert [each.numbers[1].path for each in compared([[1, 2]], [[1, 3]])] == ["$[0][1]"]
    assert [each.numbers[0].path for each in compared({"outputs": [5]}, {"outputs": [5]})] == ["$.outputs[0]"]
    (whole,) = compared({"text": "yes", "deployedModelId": "1"}, {"text": "yes", "deployedModelId": "2"})
    assert (whole.where, whole.fault, whole.labels[0].path) == ("line 4", "", "$.text")
    (counts,) = compared({"predictions": [1]}, {"predictions": []})
    assert counts.fault == "$.predictions: A has 1 item, B has 0"
    (texts,) = compared(b"one", b"two", content=True)
    assert texts.fault == 'answers that are no JSON differ: A has "one", B has "two"'
    assert not compared(b"one", b"one", content=True)[0].fault


@pytest.mark.parametrize(
    ("limits", "passed", "words"),
    [
        (Limits(), False, "the largest difference is 0.5, allowed 0.01"),
        (Limits(tolerance=0.5), False, "the mean difference is 0.25, allowed 0.001"),
        (Limits(tolerance=0.5, mean_tolerance=0.25), True, "the largest difference is 0.5, allowed 0.5"),
        (Limits(relative=True, tolerance=0.005, mean_tolerance=1), True, "the largest relative difference is 0.00498"),
        (Limits(relative=True, tolerance=0.004, mean_tolerance=1), False, "0.00498, allowed 0.004"),
    ],
)
def test_the_limits_are_what_is_still_allowed(limits, passed, words):
    judged = verdict.judge(of([100.0, 1.5], [100.5, 1.5]), (), (), limits)
    assert judged.passed == passed
    assert words in judged.reasons[0]


def test_the_share_of_flips():
    found = of([0.9] * 199 + [0.501], [0.9] * 199 + [0.499])
    assert verdict.judge(found, (), (), Limits()).passed
    judged = verdict.judge(found, (), (), Limits(flips=0.004))
    assert judged.reasons == ("1 of 200 rows have another class (0.5 %), allowed 0.4 %",)
    assert verdict.judge(found, (), (), Limits(flips=None)).passed


def test_nothing_compared_is_no_agreement():
    assert verdict.judge(figures([]), (), (), Limits()).reasons == (
        "no row was compared: no request was answered by both",
    )
    for bad in (Limits(tolerance=-1), Limits(mean_tolerance=math.nan), Limits(flips=2.0)):
        with pytest.raises(UsageError):
            bad.check()
