"""The shipped predictors over real models; the same class under the kit and under upstream's server."""

import json
import pickle

import joblib
import numpy as np
import pytest
import skops.io
import xgboost
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from cpr_kit import Preprocessor, RequestError, SklearnPredictor, StartError, XgboostPredictor

X, Y = load_iris(return_X_y=True)


class IrisScaler(Preprocessor):
    def fit(self, instances):
        self.mean, self.std = instances.mean(0), instances.std(0)
        return self

    def transform(self, instances):
        return (instances - self.mean) / self.std


@pytest.fixture(scope="session")
def forest():
    return RandomForestClassifier(10, random_state=0).fit(X, Y)


@pytest.fixture(scope="session")
def booster():
    return xgboost.train({"objective": "multi:softmax", "num_class": 3}, xgboost.DMatrix(X, Y), 3)


def answers(predictor, rows):
    return np.asarray(
        predictor.postprocess(predictor.predict(predictor.preprocess({"instances": rows})))["predictions"]
    )


def test_sklearn_serves_skops_without_trust(forest, tmp_path):
    skops.io.dump(forest, tmp_path / "model.skops")
    predictor = SklearnPredictor()
    predictor.load(str(tmp_path))
    assert np.array_equal(answers(predictor, X.tolist()), forest.predict(X))


@pytest.mark.parametrize("consent", [{"trusted": True}, {"allowed_extensions": [".joblib"]}])
def test_sklearn_serves_a_pickle_only_with_consent(forest, tmp_path, consent):
    joblib.dump(forest, tmp_path / "model.joblib")
    with pytest.raises(StartError, match=r"model.joblib is a pickle.*trusted = true"):
        SklearnPredictor().load(str(tmp_path))
    with pytest.raises(StartError):
        SklearnPredictor().load(str(tmp_path), allowed_extensions=[".skops"])

    predictor = SklearnPredictor()
    predictor.load(str(tmp_path), **consent)
    assert np.array_equal(answers(predictor, X.tolist()), forest.predict(X))


def test_trust_comes_from_the_environment_too(forest, tmp_path, monkeypatch):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(forest))
    monkeypatch.setenv("CPR_MODEL_TRUSTED", "true")
    SklearnPredictor().load(str(tmp_path))


def test_the_saved_preprocessor_is_used(tmp_path):
    scaler = IrisScaler().fit(X)
    scaler.save(tmp_path)
    model = RandomForestClassifier(10, random_state=0).fit(scaler.transform(X), Y)
    skops.io.dump(model, tmp_path / "model.skops")

    predictor = SklearnPredictor()
    predictor.load(str(tmp_path))

    assert np.array_equal(answers(predictor, X.tolist()), model.predict(scaler.transform(X)))


@pytest.mark.parametrize("file", ["model.ubj", "model.json", "model.bst"])
def test_xgboost_serves_native_boosters(booster, tmp_path, file, recwarn):
    booster.save_model(tmp_path / file)
    predictor = XgboostPredictor()
    predictor.load(str(tmp_path))
    assert np.array_equal(answers(predictor, X.tolist()), booster.predict(xgboost.DMatrix(X)))


def test_xgboost_serves_trusted_pickles_of_boosters_and_estimators(booster, tmp_path):
    for model in (booster, xgboost.XGBClassifier(n_estimators=3).fit(X, Y)):
        joblib.dump(model, tmp_path / "model.joblib")
        predictor = XgboostPredictor()
        predictor.load(str(tmp_path), trusted=True)
        assert len(answers(predictor, X[:2].tolist())) == 2


def test_no_model_file_says_what_is_there_instead(tmp_path):
    (tmp_path / "modle.joblib").touch()
    with pytest.raises(StartError, match=r"it holds modle.joblib.*model.skops, model.onnx, model.joblib"):
        SklearnPredictor().load(str(tmp_path))
    with pytest.raises(StartError, match="does not exist"):
        SklearnPredictor().load(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one instance"),
        ("abc", "must be a list"),
        ([[1, 2, 3, 4], [1, 2, 3]], "instance 1 has 3 values; 4 are wanted"),
        ([[1, 2, 3]], "instance 0 has 3 values; 4 are wanted"),
        ([1, 2, 3, 4], "instance 0 must be a list of values, not a number"),
        ([{"a": 1}], "instance 0 must be a list of values, not an object"),
        ([[1, 2, 3, {}]], "instance 0 holds an object"),
        ([[1, 2, 3, [4]], [1, 2, 3, [4]]], "different shapes"),
        ([[1, 2, 3, "4"]], "instance 0 holds text"),
        ([[1, 2, 3, 4], [1, 2, 3, 1e300]], "instance 1 holds a number at value 3 that is no float32"),
    ],
)
def test_wrong_instances_are_named(forest, tmp_path, rows, message):
    skops.io.dump(forest, tmp_path / "model.skops")
    predictor = SklearnPredictor()
    predictor.load(str(tmp_path))
    with pytest.raises(RequestError, match=message):
        predictor.preprocess({"instances": rows})


def test_text_reaches_a_pipeline_with_an_encoder(tmp_path):
    rows = [["red", 1], ["blue", 2]] * 5
    model = make_pipeline(OneHotEncoder(), RandomForestClassifier(2, random_state=0)).fit(
        np.array(rows, dtype=object), [0, 1] * 5
    )
    skops.io.dump(model, tmp_path / "model.skops")
    predictor = SklearnPredictor()
    predictor.load(str(tmp_path), trusted=True)
    assert answers(predictor, rows).tolist() == [0, 1] * 5


def test_the_same_class_runs_under_upstreams_server(forest, tmp_path, monkeypatch, recwarn):
    from google.cloud.aiplatform.prediction.handler import PredictionHandler
    from starlette.requests import Request
    import asyncio

    skops.io.dump(forest, tmp_path / "model.skops")

    class Iris(SklearnPredictor):
        def postprocess(self, prediction_results):
            return {"predictions": [int(x) for x in prediction_results]}

    async def receive():
        return {"type": "http.request", "body": json.dumps({"instances": X[:3].tolist()}).encode()}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", b"application/json")]}
    response = asyncio.run(PredictionHandler(str(tmp_path), predictor=Iris).handle(Request(scope, receive)))
    assert json.loads(response.body) == {"predictions": forest.predict(X[:3]).tolist()}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "not a list"),
        (5, "not a number"),
        (None, "not null"),
        ("x", "not text"),
        ({}, 'no "instances"'),
        ({"instances": [[[1, 2], [3, 4], [5, 6], [7, 8]]]}, "flat list"),
        ({"instances": [[1, 2, 3, 4], [1, 2, 3, float("inf")]]}, "instance 1 holds a number that is not finite"),
    ],
)
def test_wrong_bodies_are_the_callers_mistake(forest, tmp_path, body, message):
    skops.io.dump(forest, tmp_path / "model.skops")
    predictor = SklearnPredictor()
    predictor.load(str(tmp_path))
    with pytest.raises(RequestError, match=message):
        predictor.preprocess(body)
