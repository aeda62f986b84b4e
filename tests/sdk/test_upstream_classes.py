"""Upstream's ready-made classes and functions, as the kit has them."""

import importlib
import json
import pickle
import sys
import types

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cpr_kit
from cpr_kit.errors import RequestError, StartError
from cpr_kit.runtime.steps import Steps
from cpr_kit.sdk.aiplatform.constants import prediction as constants
from cpr_kit.sdk.aiplatform.prediction import handler_utils
from cpr_kit.sdk.aiplatform.utils import prediction_utils
from cpr_kit.sdk.handler import Handler
from cpr_kit.sdk.predictors import SklearnPredictor, XgboostPredictor

ROWS = [[6.7, 3.1, 4.7, 1.5], [4.6, 3.1, 1.5, 0.2]]


@pytest.fixture(scope="module")
def iris():
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=5, random_state=0).fit(*load_iris(return_X_y=True))


@pytest.fixture
def model(tmp_path, monkeypatch):
    (tmp_path / "app").mkdir()
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    return tmp_path / "model"


def ask(predictor, instances):
    return predictor.postprocess(predictor.predict(predictor.preprocess({"instances": instances})))


@pytest.mark.parametrize("name", ["model.joblib", "model.pkl"])
def test_a_sklearn_pickle_loads_with_a_warning_in_the_log(model, iris, name, caplog):
    (model / name).write_bytes(pickle.dumps(iris))
    if name == "model.joblib":
        joblib.dump(iris, model / name)
    predictor = SklearnPredictor()

    predictor.load(str(model))

    assert ask(predictor, ROWS) == {"predictions": [1, 0]}
    assert f"{name} is a pickle" in caplog.text
    assert predictor._model.n_features_in_ == 4
    assert (model.parent / "app" / name).exists()


def test_the_kits_own_name_still_refuses_it(model, iris):
    joblib.dump(iris, model / "model.joblib")

    with pytest.raises(StartError, match="nothing says that it is trusted"):
        cpr_kit.SklearnPredictor().load(str(model))


def test_joblib_comes_first_unless_it_is_not_allowed(model, iris):
    joblib.dump("joblib", model / "model.joblib")
    (model / "model.pkl").write_bytes(pickle.dumps("pickle"))
    predictor = SklearnPredictor()
    loaded = []
    for allowed in (None, [".joblib"], [".pkl"]):
        predictor.load(str(model), allowed_extensions=allowed)
        loaded.append(predictor._model)

    assert loaded == ["joblib", "joblib", "pickle"]


@pytest.mark.parametrize(("allowed", "told"), [(None, "model.joblib, model.pkl"), ([".onnx"], "none, since")])
def test_no_model_file_is_a_value_error_that_says_what_there_is(model, allowed, told):
    (model / "model.h5").touch()

    with pytest.raises(ValueError, match=f"{told}.* there is model.h5"):
        SklearnPredictor().load(str(model), allowed_extensions=allowed)


def test_what_derives_from_it_may_call_its_steps_and_set_its_attributes(model, iris):
    """Scenario 1: a scaler of one's own under a name that the kit's predictors use for something else."""
    joblib.dump(iris, model / "model.joblib")
    (model / "preprocessor.pkl").write_bytes(pickle.dumps([1.0, 2.0, 3.0, 4.0]))

    class Scaled(SklearnPredictor):
        def load(self, artifacts_uri):
            super().load(artifacts_uri)
            with open("preprocessor.pkl", "rb") as file:
                self._preprocessor = pickle.load(file)

        def preprocess(self, prediction_input):
            return super().preprocess(prediction_input) * self._preprocessor

    predictor = Scaled()
    predictor.load(str(model))

    assert predictor.preprocess({"instances": [[1, 1, 1, 1]]}).tolist() == [[1, 2, 3, 4]]


def test_a_load_of_ones_own_needs_only_the_model():
    class Constant(SklearnPredictor):
        def load(self, artifacts_uri):
            self._model = types.SimpleNamespace(predict=lambda rows: np.full(len(rows), 7))

    predictor = Constant()
    predictor.load("")

    assert ask(predictor, ["text", "more text"]) == {"predictions": [7, 7]}


@pytest.mark.parametrize("kind", [SklearnPredictor, XgboostPredictor])
@pytest.mark.parametrize("body", [{}, [], {"instances": [[1, 2], [3]]}])
def test_a_request_that_is_wrong_is_the_callers_mistake(kind, body):
    with pytest.raises(RequestError):
        kind().preprocess(body)


def test_lists_come_to_a_preprocess_as_upstream_gives_them():
    assert Steps(SklearnPredictor(), None)._wants.array is False


@pytest.mark.filterwarnings("ignore")  # xgboost has to guess the format of a .bst
@pytest.mark.parametrize("name", ["model.bst", "model.joblib", "model.pkl", "a booster's format in model.joblib"])
def test_every_file_of_an_xgboost_model_loads(model, name):
    import xgboost

    rows = np.array([[0.0, 1.0], [1.0, 0.0]] * 8)
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(rows, [0, 1] * 8), 3)
    if name.endswith((".bst", "format in model.joblib")):
        booster.save_model(model / "model.ubj")
        (model / "model.ubj").rename(model / name.split()[-1])
    elif name == "model.pkl":
        (model / name).write_bytes(pickle.dumps(booster))
    else:
        joblib.dump(booster, model / name)
    predictor = XgboostPredictor()

    predictor.load(str(model))

    answer = ask(predictor, [[0.0, 1.0], [1.0, 0.0]])
    assert json.dumps(answer)
    assert answer["predictions"][0] < answer["predictions"][1]


class Loads(cpr_kit.Predictor):
    loads = 0

    def load(self, artifacts_uri):
        Loads.loads += 1

    def predict(self, instances):
        return instances


def test_a_handler_that_loads_the_predictor_itself_loads_it_once():
    class Own(Handler):
        def __init__(self, artifacts_uri, predictor=None):
            super().__init__(artifacts_uri, predictor)
            self._predictor = predictor()
            self._predictor.load(artifacts_uri)

        def handle(self, request):
            return request

    class WithoutInit(Handler):
        def handle(self, request):
            return request

    for kind in (Own, WithoutInit):
        Loads.loads = 0
        assert isinstance(kind("", predictor=Loads)._predictor, Loads)
        assert Loads.loads == 1


def test_the_prediction_handler_is_a_handler():
    assert issubclass(cpr_kit.PredictionHandler, Handler)
    with pytest.raises(ValueError, match="predictor class"):
        cpr_kit.PredictionHandler("", None)


@pytest.mark.parametrize(
    ("headers", "content_type", "accept"),
    [
        (None, None, "application/json"),
        ({}, None, "application/json"),
        ({"content-type": "text/csv; charset=utf-8", "accept": "*/*"}, "text/csv", "*/*"),
        ({"Content-Type": "text/csv", "Accept": "text/csv;q=0.5, */*"}, "text/csv", "text/csv;q=0.5, */*"),
        ({"x-content-type": "text/csv"}, None, "application/json"),
    ],
)
def test_headers_are_read(headers, content_type, accept):
    assert handler_utils.get_content_type_from_headers(headers) == content_type
    assert handler_utils.get_accept_from_headers(headers) == accept


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, {}),
        ("", {}),
        ("application/json", {"application/json": 1.0}),
        ("text/csv;q=0.5, */*", {"text/csv": 0.5, "*/*": 1.0}),
        ("application/json;charset=utf-8", {"application/json": 1.0}),
        ("application/json;charset=utf-8;q=0.2", {"application/json": 0.2}),
    ],
)
def test_accept_headers_are_parsed(header, found):
    assert handler_utils.parse_accept_header(header) == found


@given(st.text())
def test_any_accept_header_gives_qualities(header):
    assert all(0 <= quality <= 1 for quality in handler_utils.parse_accept_header(header).values())


@pytest.mark.parametrize(
    ("uri", "known"),
    [
        ("us-central1-docker.pkg.dev/p/r/i:1", True),
        ("gcr.io/p/i", True),
        ("eu.gcr.io/p/i", True),
        ("us-docker.pkg.devil.example/p", False),
        ("gcr.iota/p", False),
        ("python:3.11-slim", False),
        ("docker.io/gcr.io/p", False),
    ],
)
def test_registries_of_google_are_known(uri, known):
    assert prediction_utils.is_registry_uri(uri) is known


@pytest.mark.parametrize(("ports", "port"), [(None, 8080), ([], 8080), ([7080, 1], 7080)])
def test_the_first_port_gets_the_traffic(ports, port):
    assert prediction_utils.get_prediction_aip_http_port(ports) == port


@pytest.mark.parametrize(("file", "module"), [("a.py", "a"), ("pkg/b.py", "pkg.b"), ("pkg/__init__.py", "pkg")])
def test_a_class_is_found_by_its_file(tmp_path, monkeypatch, file, module):
    path = tmp_path / "src" / file
    path.parent.mkdir(parents=True)
    path.write_text("class Here: pass\n")
    (tmp_path / "src" / "pkg").mkdir(exist_ok=True)
    monkeypatch.syspath_prepend(tmp_path / "src")
    import importlib

    found = importlib.import_module(module).Here
    try:
        assert prediction_utils.inspect_source_from_class(found, str(tmp_path / "src")) == (module, "Here")
        with pytest.raises(ValueError, match='must be in ".*elsewhere"'):
            prediction_utils.inspect_source_from_class(found, str(tmp_path / "elsewhere"))
    finally:
        for name in {module, module.partition(".")[0]}:
            sys.modules.pop(name)


@pytest.mark.filterwarnings("ignore")
def test_constants_have_upstreams_values():
    theirs = importlib.import_module("google.cloud.aiplatform.constants.prediction")
    for name in constants.__all__:
        if not name.endswith("_REGEX"):
            assert getattr(constants, name) == getattr(theirs, name), name


@given(
    st.sampled_from(["content-type", "Content-Type", "contentType", "accept", "Accept", "x-accept", "content-types"])
)
def test_header_patterns_match_what_upstreams_do(name):
    theirs = importlib.import_module("google.cloud.aiplatform.constants.prediction")
    for pattern in ("CONTENT_TYPE_HEADER_REGEX", "ACCEPT_HEADER_REGEX"):
        assert bool(getattr(constants, pattern).match(name)) == bool(getattr(theirs, pattern).match(name))
