"""ONNX graphs: converted models answer as scikit-learn does; graphs of other shapes; files that are wrong."""

import joblib
import numpy as np
import onnx
import pytest
import skl2onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cpr_kit import OnnxPredictor, Preprocessor, RequestError, SklearnPredictor, StartError
from cpr_kit.convert import sklearn as conversion

X, Y = load_iris(return_X_y=True)
LABELS = {
    "integers": Y - 1,
    "small integers": Y.astype(np.int8),
    "text": np.array(["setosa", "versicolor", "virginica"])[Y],
    "objects": np.array(["setosa", "versicolor", "virginica"], dtype=object)[Y],
    "booleans": Y > 0,
    "floats": Y + 1.0,
}


class Doubles(Preprocessor):
    def fit(self, instances):
        self.factor = 2.0
        return self

    def transform(self, instances):
        return instances * self.factor


def loaded(folder, kind=OnnxPredictor, **attributes):
    predictor = type("Served", (kind,), {"arrays_are_written": True, **attributes})()  # as the kit's server has it
    predictor.load(str(folder))
    return predictor


def answers(predictor, rows):
    return predictor.postprocess(predictor.predict(predictor.preprocess({"instances": rows})))["predictions"]


def write(folder, nodes, inputs, outputs):
    """A graph by hand: inputs and outputs as (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*x) for x in inputs],
        [helper.make_tensor_value_info(*x) for x in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(max_iter=500),
        RandomForestClassifier(5, random_state=0),
        HistGradientBoostingClassifier(max_iter=3),
    ],
)
def test_the_onnx_route_answers_as_scikit_learn_does(tmp_path, model, labels):
    model = make_pipeline(StandardScaler(), model).fit(X, labels)
    (tmp_path / "model.onnx").write_bytes(conversion.convert(model, X).graph)
    predictor = loaded(tmp_path, SklearnPredictor)
    answer, expected = answers(predictor, X.tolist()), model.predict(X)
    assert answer.dtype == expected.dtype
    assert np.array_equal(answer, expected)
    assert np.allclose(predictor._model.predict_proba(X), model.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [LinearRegression(), RandomForestRegressor(5, random_state=0), KMeans(3, n_init=1, random_state=0)],
    ids=str,
)
def test_values_and_clusters_come_in_scikit_learns_form(tmp_path, model):
    model = model.fit(X, X[:, 0] * 2 + Y)
    (tmp_path / "model.onnx").write_bytes(conversion.convert(model, X).graph)
    answer, expected = answers(loaded(tmp_path, SklearnPredictor), X.tolist()), model.predict(X)
    assert (answer.dtype, answer.shape) == (expected.dtype, expected.shape)
    assert np.allclose(answer, expected, rtol=1e-6)


def test_two_targets_stay_two(tmp_path):
    model = LinearRegression().fit(X, np.stack([Y, 2 * Y], axis=1))
    (tmp_path / "model.onnx").write_bytes(conversion.convert(model, X).graph)
    assert answers(loaded(tmp_path, SklearnPredictor), X.tolist()).shape == (150, 2)


def test_a_graph_made_elsewhere_serves_as_well(tmp_path):
    model = LogisticRegression(max_iter=500).fit(X, Y)
    graph = skl2onnx.to_onnx(model, X[:1].astype(np.float32), options={"zipmap": False})
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    assert np.array_equal(answers(loaded(tmp_path, SklearnPredictor), X.tolist()), model.predict(X))
    assert np.array_equal(answers(loaded(tmp_path), X.tolist()), model.predict(X))


def test_skops_comes_before_onnx_and_onnx_before_a_pickle(tmp_path):
    model = LogisticRegression(max_iter=500).fit(X, Y)
    (tmp_path / "model.onnx").write_bytes(conversion.convert(model, X).graph)
    joblib.dump(model, tmp_path / "model.joblib")
    assert type(loaded(tmp_path, SklearnPredictor)._model).__name__ == "GraphEstimator"  # no trust was asked for


def test_the_output_is_chosen_by_name(tmp_path):
    model = LogisticRegression(max_iter=500).fit(X, Y)
    (tmp_path / "model.onnx").write_bytes(conversion.convert(model, X).graph)
    assert np.array_equal(answers(loaded(tmp_path, output="label"), X.tolist()), Y) == np.array_equal(
        model.predict(X), Y
    )
    assert np.allclose(answers(loaded(tmp_path, output="probabilities"), X.tolist()), model.predict_proba(X))
    with pytest.raises(
        StartError, match='no output "scores".*set output on your predictor to one of label, probabilities'
    ):
        loaded(tmp_path, output="scores")


def test_a_zipmap_is_refused_with_the_remedy(tmp_path):
    graph = skl2onnx.to_onnx(LogisticRegression(max_iter=500).fit(X, Y), X[:1].astype(np.float32))
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(StartError, match=r"output_probability.*ZipMap.*cpr convert"):
        loaded(tmp_path, output="probabilities")
    assert len(answers(loaded(tmp_path), X.tolist())) == 150  # its label can be served


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07\x12\x04test"])
def test_a_file_that_is_no_graph_is_named(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(StartError, match=r"model.onnx is no ONNX model that onnxruntime [0-9.]+ can run"):
        loaded(tmp_path)


def test_the_saved_preprocessor_stands_before_the_graph(tmp_path):
    model = LogisticRegression(max_iter=500).fit(X * 2, Y)
    (tmp_path / "model.onnx").write_bytes(conversion.convert(model, X * 2).graph)
    Doubles().fit(X).save(tmp_path)
    assert np.array_equal(answers(loaded(tmp_path), X.tolist()), model.predict(X * 2))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2, 3]], "has 3 values; 4 are wanted"),
        ([[1, 2, 3, "4"]], "holds text"),
        ([[1, 2, 3, None]], "null"),
        ([[1, 2, 3, 1e300]], "no float32"),
        ({}, "list with at least one"),
    ],
)
def test_rows_that_do_not_fit_are_the_callers_mistake(tmp_path, rows, message):
    graph = skl2onnx.to_onnx(LogisticRegression(max_iter=500).fit(X, Y), X[:1].astype(np.float32))
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(RequestError, match=message):
        loaded(tmp_path).preprocess({"instances": rows})


@pytest.fixture
def weighs(tmp_path):
    """Three inputs: a plain value, a vector, and text that comes out again."""
    write(
        tmp_path,
        [
            helper.make_node("ReduceSum", ["vector"], ["total"], keepdims=1),
            helper.make_node("Mul", ["value", "total"], ["product"]),
            helper.make_node("Identity", ["word"], ["said"]),
        ],
        [
            ("value", TensorProto.INT64, ["n", 1]),
            ("vector", TensorProto.INT64, ["n", 3]),
            ("word", TensorProto.STRING, ["n"]),
        ],
        [("product", TensorProto.INT64, ["n", 1]), ("said", TensorProto.STRING, ["n"])],
    )
    # The sum is over all axes; one a row is wanted.
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.initializer.append(helper.make_tensor("axes", TensorProto.INT64, [1], [1]))
    model.graph.node[0].input.append("axes")
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path


def test_several_inputs_take_objects(weighs):
    rows = [{"value": 2, "vector": [1, 2, 3], "word": "a"}, {"word": "b", "value": [3], "vector": [1, 1, 1]}]
    assert answers(loaded(weighs, output="product"), rows).tolist() == [[12], [9]]
    assert answers(loaded(weighs, output="said"), rows).tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2]], "instance 0 must be an object"),
        ([{"value": 1, "vector": [1, 2, 3]}], 'instance 0 has no "word"'),
        ([{"value": 1, "vector": [1, 2, 3], "word": "a", "x": 1}], "more names than"),
        ([{"value": 1, "vector": [1, 2], "word": "a"}], '"vector" of instance 0 must be 3'),
        ([{"value": 1, "vector": [1, [2], 3], "word": "a"}], "lists of different lengths"),
        ([{"value": "1", "vector": [1, 2, 3], "word": "a"}], '"value" of instance 0 must hold numbers'),
        ([{"value": 1, "vector": [1, 2, None], "word": "a"}], '"vector" of instance 0 must hold numbers'),
        ([{"value": 1, "vector": [1, 2, float("nan")], "word": "a"}], "not finite"),
        ([{"value": 1, "vector": [1, 2, 3], "word": 5}], '"word" of instance 0 must hold text'),
        (None, "must be a list"),
        ([], "must be a list"),
        ("abc", "must be a list"),
    ],
)
def test_objects_that_do_not_fit_are_named(weighs, rows, message):
    with pytest.raises(RequestError, match=message):
        loaded(weighs).preprocess({"instances": rows})


def test_a_fraction_where_the_graph_counts_is_the_callers_mistake(weighs):
    predictor = loaded(weighs, output="product")
    rows = predictor.preprocess({"instances": [{"value": 1.5, "vector": [1, 2, 3], "word": "a"}]})
    with pytest.raises(RequestError, match="instance 0 holds a number that does not fit"):
        predictor.predict(rows)


def test_pictures_and_graphs_of_one_row(tmp_path):
    write(
        tmp_path,
        [helper.make_node("GlobalAveragePool", ["picture"], ["mean"])],
        [("picture", TensorProto.FLOAT, [1, 3, None, None])],
        [("mean", TensorProto.FLOAT, [1, 3, 1, 1])],
    )
    predictor = loaded(tmp_path)
    pictures = np.arange(2 * 3 * 4 * 5, dtype=float).reshape(2, 3, 4, 5)
    for instances in (pictures, pictures.tolist()):
        answer = answers(predictor, instances)
        assert answer.reshape(2, 3).tolist() == pictures.mean(axis=(2, 3)).tolist()
    with pytest.raises(RequestError, match='"picture" of instance 0 must be 3 x any x any'):
        predictor.preprocess({"instances": [[1, 2, 3]]})


def test_a_graph_of_a_fixed_number_of_rows_is_refused(tmp_path):
    write(
        tmp_path, [helper.make_node("Identity", ["a"], ["b"])],
        [("a", TensorProto.FLOAT, [8, 4])], [("b", TensorProto.FLOAT, [8, 4])],
    )  # fmt: skip
    with pytest.raises(StartError, match="takes exactly 8 rows"):
        loaded(tmp_path)


def test_scikit_learns_route_takes_no_graph_of_several_inputs(weighs):
    with pytest.raises(StartError, match="has 3 inputs.*OnnxPredictor"):
        loaded(weighs, SklearnPredictor)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=5))
def test_rows_of_several_requests_joined_are_answered_as_alone(graphs, cuts):
    edges = sorted({0, *cuts, 60})
    for predictor in graphs:
        parts = [predictor.preprocess({"instances": X[a:b].tolist()}) for a, b in zip(edges, edges[1:])]
        together = predictor.predict(np.concatenate(parts))
        # The graph's matrix product may round its last bit differently for another number of rows.
        assert np.allclose(
            together, np.concatenate([predictor.predict(part) for part in parts]), rtol=1e-14, atol=1e-15
        )


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    folders = [tmp_path_factory.mktemp("graph") for _ in range(2)]
    for folder, model in zip(folders, (RandomForestClassifier(5, random_state=0), LogisticRegression(max_iter=500))):
        (folder / "model.onnx").write_bytes(conversion.convert(model.fit(X, Y), X).graph)
    return [loaded(folder, output=output) for folder in folders for output in ("label", "probabilities")]
