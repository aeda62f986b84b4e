"""Conversion to ONNX and its proof: what agrees, what is caught, what is refused."""

import json

import numpy as np
import onnx.helper
import pytest
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from cpr_kit.convert import sklearn as conversion
from cpr_kit.convert.agreement import Answers, compare
from cpr_kit.convert.translation import Untranslatable, translate
from cpr_kit.errors import UsageError
from cpr_kit.runtime.frameworks.graph import Graph, GraphEstimator

X, Y = make_classification(1500, 20, n_informative=8, n_classes=3, random_state=0)
TARGET = X[:, 0] * 2 + Y


def attempts(report):
    return {attempt.dtype: attempt for attempt in report.attempts}


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), PCA(5), LogisticRegression()),
        make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)),
        make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=5)),
        make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=20)),
        make_pipeline(StandardScaler(), BaggingClassifier(n_estimators=3)),
        LinearSVC(),
    ],
    ids=lambda model: type(getattr(model, "steps", [[0, model]])[-1][1]).__name__,
)
def test_classifiers_agree_on_every_row(model):
    report = conversion.convert(model.fit(X, Y), X)
    assert report.agrees
    assert (report.agreement.rows, report.agreement.flips) == (1500, 0)
    assert np.array_equal(GraphEstimator(Graph(report.graph)).predict(X), model.predict(X))


@pytest.mark.parametrize(
    "model", [LinearRegression(), ExtraTreesRegressor(5), HistGradientBoostingRegressor(max_iter=20)], ids=str
)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_values_agree_whatever_their_size(model, scale):
    assert conversion.convert(model.fit(X, TARGET * scale), X).agrees


def test_the_trap_of_32_bits_is_seen_and_avoided():
    """Scaled in 32 bits, rows that stand on a threshold fall to its other side."""
    model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=50)).fit(X, Y)
    report = conversion.convert(model, X)
    single, double = attempts(report)["float32"].agreement, attempts(report)["float64"].agreement
    assert single.beyond > 0
    assert single.max_difference > 1e-3
    assert (double.beyond, double.flips) == (0, 0)
    assert report.chosen.dtype == "float64"


def test_nothing_of_onnx_is_changed_for_others():
    before = onnx.helper.make_attribute
    conversion.convert(HistGradientBoostingClassifier(max_iter=2).fit(X, Y), X[:10])
    assert onnx.helper.make_attribute is before
    with pytest.raises((ValueError, TypeError)):
        onnx.helper.make_attribute("x", [1, True, "a"])


def test_gaps_are_part_of_the_proof_and_noted():
    gaps = X.copy()
    gaps[::7, 3] = np.nan
    for model in (HistGradientBoostingClassifier(max_iter=5), make_pipeline(SimpleImputer(), LogisticRegression())):
        model.fit(gaps, Y)
        report = conversion.convert(model, gaps)
        assert report.agrees
        assert Graph(report.graph).signature.allow_missing
        assert not Graph(conversion.convert(model, X).graph).signature.allow_missing  # no row has shown it


def test_a_graph_that_disagrees_is_reported_with_its_worst_rows(monkeypatch):
    model = LogisticRegression(max_iter=500).fit(X, Y)
    other = LogisticRegression(max_iter=500, C=1e-4).fit(X, Y)
    monkeypatch.setattr(conversion, "translate", lambda _, *rest, **options: translate(other, *rest, **options))

    report = conversion.convert(model, X)

    flips = int((model.predict(X) != other.predict(X)).sum())
    assert not report.agrees
    assert report.agreement.flips == flips > 0
    worst = report.agreement.worst[0]
    assert (worst.output, worst.sklearn, worst.onnx) == (
        "label",
        model.predict(X)[worst.row],
        other.predict(X)[worst.row],
    )
    assert json.loads(json.dumps(report.facts()))["flips"] == flips


def test_what_cannot_be_converted_says_why():
    model = make_pipeline(FunctionTransformer(np.abs), LogisticRegression(max_iter=500)).fit(X, Y)
    with pytest.raises(Untranslatable, match="skl2onnx cannot convert this Pipeline"):
        conversion.convert(model, X)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (X[:, :3], "the rows have 3 values; the model was fitted with 20"),
        (np.full((2, 20), np.nan), "the model itself refuses"),
    ],
)
def test_rows_that_the_model_refuses_are_the_users_mistake(rows, message):
    with pytest.raises(UsageError, match=message):
        conversion.convert(LogisticRegression(max_iter=500).fit(X, Y), rows)


def test_a_model_without_probabilities_of_few_rows():
    report = conversion.convert(KNeighborsRegressor(2).fit(X[:50], TARGET[:50]), X[:3])
    assert report.agreement.rows == 3
    assert [item.rows for item in report.speeds] == [1, 100]
    assert all(item.sklearn_us > 0 and item.onnx_us > 0 for item in report.speeds)


def test_differences_are_counted_by_hand():
    labels, others = np.array(["a", "b", "c"]), np.array(["a", "b", "x"])
    ours, theirs = np.array([[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]]), np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    found = compare(
        Answers(labels=labels, probabilities=ours), Answers(labels=others, probabilities=theirs), tolerance=0.05
    )
    assert (found.flips, found.beyond, found.whole) == (1, 1, False)
    assert found.max_difference == pytest.approx(0.1)
    assert found.mean_difference == pytest.approx(0.1 / 3)
    assert [(item.row, item.output) for item in found.worst] == [(2, "label"), (1, "probabilities")]


def test_values_are_compared_by_their_size_and_nan_is_no_agreement():
    def of(ours, theirs):
        return compare(Answers(values=np.array(ours)), Answers(values=np.array(theirs)), tolerance=1e-5)

    assert of([1e9, -1e9], [1e9 + 1, -1e9]).whole
    assert not of([1e-9, -1e-9], [1.1e-9, -1e-9]).whole
    assert of([5.0, 5.0], [5.0, 5.0]).max_difference == 0
    assert of([0.0, 0.0], [0.0, 0.0]).whole
    assert of([1.0, 2.0], [1.0, np.nan]).max_difference == np.inf
    assert of([1.0, np.nan], [1.0, np.nan]).whole
    with pytest.raises(ValueError, match="shape"):
        of([1.0, 2.0], [[1.0], [2.0]])
