"""What is found out about scikit-learn models: threads of every part, what rows they take, columns by name."""

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from cpr_kit import RequestError, SklearnPredictor, StartError
from cpr_kit.runtime.frameworks import estimator

X, Y = load_iris(return_X_y=True)


def forest(**options):
    return RandomForestClassifier(3, n_jobs=-1, random_state=0, **options)


@pytest.fixture
def served(tmp_path):
    def load(model, kind=SklearnPredictor, file="model.joblib"):
        joblib.dump(model, tmp_path / file)
        predictor = kind()
        predictor.load(str(tmp_path), trusted=True)
        return predictor

    return load


def jobs(model):
    return {member.n_jobs for member in estimator.members(model) if "n_jobs" in vars(member)}


@pytest.mark.parametrize(
    "model",
    [
        forest(),
        make_pipeline(StandardScaler(), forest()),
        GridSearchCV(forest(), {"max_depth": [1, 2]}, cv=2, n_jobs=2),
        VotingClassifier([("a", forest()), ("b", make_pipeline(StandardScaler(), forest()))]),
        StackingClassifier([("a", forest())], cv=2),
        CalibratedClassifierCV(forest(), cv=2),
        BaggingClassifier(forest(), n_estimators=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_part_of_a_model_is_set_to_one_thread(served, model):
    model = model.fit(X, Y)
    assert -1 in jobs(model)
    predictor = served(model)
    assert jobs(predictor._model) == {1}
    assert np.array_equal(predictor.predict(X), model.predict(X))


def test_an_author_may_keep_the_models_threads(served):
    class Parallel(SklearnPredictor):
        threads = None

    assert jobs(served(forest().fit(X, Y), Parallel)._model) == {-1}


def test_a_booster_inside_a_pipeline_is_set_too(served):
    model = make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=2, n_jobs=4)).fit(X, Y)
    inside = served(model)._model.steps[-1][1]
    assert inside.n_jobs == 1
    assert '"nthread":"1"' in inside.get_booster().save_config().replace(" ", "")


@pytest.mark.parametrize(
    ("model", "allow_missing", "dtype"),
    [
        (LogisticRegression(max_iter=500), False, "float64"),
        (make_pipeline(StandardScaler(), LogisticRegression()), False, "float64"),
        (make_pipeline(SimpleImputer(), LogisticRegression(max_iter=500)), True, "float64"),
        (HistGradientBoostingClassifier(max_iter=2), True, "float64"),
        (forest(), False, "float32"),
        (GradientBoostingClassifier(n_estimators=2), False, "float32"),
        (make_column_transformer((StandardScaler(), [0, 1, 2, 3])), False, None),
    ],
    ids=str,
)
def test_the_signature_is_what_the_model_does(model, allow_missing, dtype):
    model = model.fit(X, Y) if hasattr(model, "predict") else make_pipeline(model, LogisticRegression()).fit(X, Y)
    with_gaps = X.copy()
    with_gaps[0, 0] = np.nan
    found = estimator.signature(model)
    assert (found.features, found.names, found.dtype) == (4, None, dtype)
    if isinstance(model, RandomForestClassifier):
        allow_missing = found.allow_missing  # whether forests take gaps depends on scikit-learn's version
    assert found.allow_missing == allow_missing
    if allow_missing:
        model.predict(with_gaps)
    else:
        with pytest.raises(ValueError, match="NaN"):
            model.predict(with_gaps)


def test_gaps_reach_a_model_that_takes_them(served):
    model = HistGradientBoostingClassifier(max_iter=3).fit(X, Y)
    predictor = served(model)
    rows = [[5.1, None, 1.4, 0.2], [6.7, 3.1, None, 1.5]]
    answer = predictor.predict(predictor.preprocess({"instances": rows}))
    assert answer.tolist() == model.predict(np.array(rows, dtype=float)).tolist()


def test_text_for_a_model_of_numbers_is_the_callers_mistake(served):
    predictor = served(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y))
    with pytest.raises(RequestError, match="instance 0 holds text"):
        predictor.preprocess({"instances": [[1, 2, 3, "4"]]})
    with pytest.raises(RequestError, match="instance 0 holds null"):
        predictor.preprocess({"instances": [[1, 2, 3, None]]})


def test_columns_by_name(served, recwarn):
    frame = pd.DataFrame({"colour": ["red", "blue", "green"] * 10, "size": np.arange(30.0), "weight": np.arange(30.0)})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["colour"]), (StandardScaler(), ["size", "weight"])), forest()
    ).fit(frame, [0, 1, 2] * 10)
    predictor = served(model)

    lists = predictor.preprocess({"instances": frame.to_numpy().tolist()})
    objects = predictor.preprocess({"instances": frame.iloc[:, ::-1].to_dict("records")})

    assert predictor.signature.names == ("colour", "size", "weight")
    assert predictor.predict(lists).tolist() == predictor.predict(objects).tolist() == model.predict(frame).tolist()
    assert predictor._model.predict_proba(lists).tolist() == model.predict_proba(frame).tolist()
    with pytest.raises(RequestError, match="weight"):
        predictor.preprocess({"instances": [{"colour": "red", "size": 1}]})


def test_columns_by_name_without_pandas_say_what_to_add(served, monkeypatch):
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 3.0]})
    model = make_pipeline(make_column_transformer((StandardScaler(), ["a", "b"])), LogisticRegression()).fit(
        frame, [0, 1]
    )
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(StartError, match="selects columns by name, which takes pandas"):
        served(model)


def test_a_model_fitted_on_a_frame_answers_arrays_without_a_warning(served):
    names = ["a", "b", "c", "d"]
    predictor = served(LogisticRegression(max_iter=500).fit(pd.DataFrame(X, columns=names), Y))
    rows = predictor.preprocess({"instances": [dict(zip(names, row)) for row in X.tolist()]})
    assert np.array_equal(rows, X)
    assert len(predictor.predict(rows)) == len(X)


def test_skops_is_taken_before_a_pickle(served, tmp_path):
    skops.io.dump(LogisticRegression(max_iter=500).fit(X, Y), tmp_path / "model.skops")
    assert isinstance(served(forest().fit(X, Y))._model, LogisticRegression)
