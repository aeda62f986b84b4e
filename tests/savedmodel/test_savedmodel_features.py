"""The features of serialised examples, as real graphs of both ParseExample operations hold them."""

from pathlib import Path

import pytest

from cpr_kit.errors import ConfigError
from cpr_kit.savedmodel import example, features, messages, reader
from cpr_kit.savedmodel.signatures import Tensor

MODELS = Path(__file__).parent / "models"


def parsed(name):
    return features.read(reader.read(MODELS / name))


def test_the_second_operation_in_a_function():
    found = parsed("penguins")
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in found.items()} == {
        **dict.fromkeys(["culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g"], ("float32", ())),
        **dict.fromkeys(["island", "sex"], ("string", ())),
    }


def test_the_first_operation_in_an_estimators_graph():
    """Its sparse feature may be absent, and is."""
    assert parsed("estimator") == {
        "length": Tensor(name="length", dtype="float32", shape=(2,)),
        "species": Tensor(name="species", dtype="string", shape=()),
    }
    assert reader.read(MODELS / "estimator").signatures["serving_default"].takes_examples


def test_a_graph_that_parses_nothing_has_none():
    assert parsed("image") == {}


def test_an_example_holds_each_feature():
    message = messages.new("Example")
    tensors = [
        Tensor(name="a", dtype="float32", shape=(2, None)),
        Tensor(name="b", dtype="int64", shape=()),
        Tensor(name="image_bytes", dtype="string", shape=()),
        Tensor(name="t", dtype="string", shape=()),
    ]
    message.ParseFromString(features.example({tensor.name: tensor for tensor in tensors}))
    found = message.features.feature
    assert list(found["a"].float_list.value) == [0.0, 0.0]
    assert list(found["b"].int64_list.value) == [0]
    assert found["image_bytes"].bytes_list.value[0].startswith(b"\xff\xd8")
    assert list(found["t"].bytes_list.value) == [b"text"]


def test_unlike_examples_in_one_graph_are_not_guessed_at(tmp_path):
    """Which signature leads to which of them is not looked up."""
    saved = messages.new("SavedModel")
    graphs = messages.new("GraphDef")
    for name in ("penguins", "estimator"):
        graphs.MergeFromString(reader.graph_def(reader.read(MODELS / name)))
    graph = saved.meta_graphs.add(graph_def=graphs.SerializeToString())
    graph.meta_info_def.tags.append("serve")
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert features.read(reader.read(tmp_path)) == {}


def test_a_graph_that_is_none_is_named(tmp_path):
    saved = messages.new("SavedModel")
    saved.meta_graphs.add(graph_def=b"\xff").meta_info_def.tags.append("serve")
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(ConfigError, match=r"saved_model\.pb has a graph that cannot be read"):
        features.read(reader.read(tmp_path))


def test_the_example_stands_in_the_body_as_base64():
    signatures = reader.read(MODELS / "penguins").signatures
    content = example.body(signatures, serialised=b"abc")
    assert content == {"instances": [{"examples": {"b64": "YWJj"}}]}
    # An input of another signature is no example.
    assert example.body(signatures, "predict", serialised=b"abc") == example.body(signatures, "predict")
