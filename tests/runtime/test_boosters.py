"""The native boosters: answers of the library itself, gaps, names, outputs, broken files."""

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris

from cpr_kit import CatboostPredictor, LightgbmPredictor, RequestError, StartError, XgboostPredictor

X, Y = load_iris(return_X_y=True)
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
WITH_GAPS = X.copy()
WITH_GAPS[::5, 1] = np.nan


def rows_of(array):
    return [[None if np.isnan(x) else x for x in row] for row in array.tolist()]


def answers(predictor, rows):
    return np.asarray(
        predictor.postprocess(predictor.predict(predictor.preprocess({"instances": rows})))["predictions"]
    )


def loaded(kind, folder):
    predictor = kind()
    predictor.load(str(folder))
    return predictor


def xgb(folder, names=None, **parameters):
    data = xgboost.DMatrix(X, Y, feature_names=names)
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3, **parameters}, data, 5)
    booster.save_model(folder / "model.ubj")
    return booster


def lgb(folder, names="auto", **parameters):
    data = lightgbm.Dataset(X, Y, feature_name=names)
    booster = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1, **parameters}, data, 5)
    booster.save_model(folder / "model.txt")
    return booster


def cat(folder, kind=catboost.CatBoostClassifier, x=X, y=Y, **parameters):
    model = kind(5, verbose=False, allow_writing_files=False, **parameters).fit(x, y)
    model.save_model(folder / "model.cbm")
    return model


@pytest.mark.parametrize("booster", ["gbtree", "gblinear", "dart"])
@pytest.mark.filterwarnings("ignore:.*gblinear")
def test_xgboost_answers_as_a_dmatrix_would(tmp_path, booster):
    model = xgb(tmp_path, booster=booster)
    predictor = loaded(XgboostPredictor, tmp_path)
    assert predictor._in_place == (booster != "gblinear")
    assert np.array_equal(answers(predictor, rows_of(WITH_GAPS)), model.predict(xgboost.DMatrix(WITH_GAPS)))


def test_lightgbm_answers_as_its_booster(tmp_path):
    model = lgb(tmp_path)
    predictor = loaded(LightgbmPredictor, tmp_path)
    assert np.array_equal(answers(predictor, rows_of(WITH_GAPS)), model.predict(WITH_GAPS))


def test_catboost_answers_labels_values_and_probabilities(tmp_path):
    class Scores(CatboostPredictor):
        output = "probabilities"

    words = np.array(["setosa", "versicolor", "virginica"])[Y]
    model = cat(tmp_path, y=words)
    assert answers(loaded(CatboostPredictor, tmp_path), X.tolist()).tolist() == model.predict(X)[:, 0].tolist()
    assert np.allclose(answers(loaded(Scores, tmp_path), X.tolist()), model.predict_proba(X))
    assert np.allclose(answers(loaded(Scores, tmp_path), rows_of(WITH_GAPS)), model.predict_proba(WITH_GAPS))

    regressor = cat(tmp_path, catboost.CatBoostRegressor, y=Y.astype(float))
    assert np.allclose(answers(loaded(CatboostPredictor, tmp_path), X.tolist()), regressor.predict(X))
    with pytest.raises(StartError, match='no output "probabilities"'):
        loaded(Scores, tmp_path)


@pytest.mark.parametrize("labels", [Y, Y > 0, np.array(["no", "yes"])[(Y > 0).astype(int)]], ids=["3", "bool", "text"])
def test_catboost_labels_keep_their_kind(tmp_path, labels):
    model = cat(tmp_path, y=labels)
    answer = answers(loaded(CatboostPredictor, tmp_path), X.tolist())
    assert answer.shape == (150,)
    assert answer.tolist() == np.asarray(model.predict(X)).reshape(-1).tolist()


def test_catboost_takes_categories(tmp_path):
    rows = [["red", 1, 0.5], ["blue", 2, 1.5], ["red", 2, 2.5]] * 10
    model = cat(tmp_path, x=rows, y=[0, 1, 1] * 10, cat_features=[0, 1])
    predictor = loaded(CatboostPredictor, tmp_path)
    assert answers(predictor, rows).tolist() == np.asarray(model.predict(rows)).tolist()


@pytest.mark.parametrize(("kind", "make"), [(XgboostPredictor, xgb), (LightgbmPredictor, lgb)])
def test_names_of_a_model_let_instances_be_objects(tmp_path, kind, make):
    make(tmp_path, names=NAMES)
    predictor = loaded(kind, tmp_path)
    shuffled = [dict(reversed(list(zip(NAMES, row)))) for row in X.tolist()]
    assert predictor.signature.names == tuple(NAMES)
    assert np.array_equal(answers(predictor, shuffled), answers(predictor, X.tolist()))
    with pytest.raises(RequestError, match="instance 0 has no"):
        predictor.preprocess({"instances": [{"sepal_width": 1}]})


def test_catboost_names(tmp_path):
    cat(tmp_path, x=pd.DataFrame(X, columns=NAMES))
    assert loaded(CatboostPredictor, tmp_path).signature.names == tuple(NAMES)
    cat(tmp_path)
    assert loaded(CatboostPredictor, tmp_path).signature.names is None


@pytest.mark.parametrize(
    ("kind", "make"), [(XgboostPredictor, xgb), (LightgbmPredictor, lgb), (CatboostPredictor, cat)]
)
@pytest.mark.parametrize(
    ("row", "message"),
    [([1, 2, 3], "has 3 values; 4 are wanted"), ([1, 2, 3, "x"], "text"), ([1, 2, 3, np.inf], "finite")],
)
def test_rows_that_do_not_fit_are_the_callers_mistake(tmp_path, kind, make, row, message):
    make(tmp_path)
    with pytest.raises(RequestError, match=message):
        loaded(kind, tmp_path).preprocess({"instances": [row]})


@pytest.mark.parametrize(
    ("kind", "file", "library"),
    [
        (XgboostPredictor, "model.ubj", "xgboost"),
        (XgboostPredictor, "model.json", "xgboost"),
        (LightgbmPredictor, "model.txt", "lightgbm"),
        (CatboostPredictor, "model.cbm", "catboost"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"not a model at all"])
def test_a_broken_file_is_named(tmp_path, kind, file, library, content):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(StartError, match=rf"{file} is no model that {library} .* can read \| save it again"):
        loaded(kind, tmp_path)


@pytest.fixture(scope="module")
def each(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boosters")
    for make in (xgb, lgb, cat):
        make(folder)
    return [loaded(kind, folder) for kind in (XgboostPredictor, LightgbmPredictor, CatboostPredictor)]


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 30), max_size=5))
def test_rows_of_several_requests_joined_are_answered_as_alone(each, cuts):
    edges = sorted({0, *cuts, 30})
    for predictor in each:
        parts = [predictor.preprocess({"instances": X[a:b].tolist()}) for a, b in zip(edges, edges[1:])]
        together = predictor.predict(np.concatenate(parts))
        assert np.array_equal(together, np.concatenate([predictor.predict(part) for part in parts]))
