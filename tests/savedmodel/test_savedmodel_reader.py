"""Real SavedModels of TensorFlow 2.21, and files that are none."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.errors import ConfigError, MissingExtra, UsageError
from cpr_kit.savedmodel import features, messages, reader
from cpr_kit.savedmodel.signatures import Tensor, find, shown, size_of

MODELS = Path(__file__).parent / "models"
SAVED = (MODELS / "penguins/1/saved_model.pb").read_bytes()


def written(folder, content, name="saved_model.pb"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


def made(*graphs):
    message = messages.new("SavedModel")
    for tags, signatures in graphs:
        graph = message.meta_graphs.add()
        graph.meta_info_def.tags.extend(tags)
        for name, sizes in signatures.items():
            tensor = graph.signature_def[name].inputs["x"]
            tensor.dtype = 1
            for size in sizes:
                tensor.tensor_shape.dim.add(size=size)
    return message.SerializeToString()


def test_the_penguins_are_read_whole():
    model = reader.read(MODELS / "penguins")
    assert model.path == MODELS / "penguins/1"
    assert (model.versions, model.tags, model.tensorflow_version) == (("1",), ("serve",), "2.21.0")
    assert not model.has_warmup
    assert sorted(model.signatures) == ["predict", "serving_default"]  # and not __saved_model_init_op
    predict = model.signatures["predict"]
    assert predict.method == "tensorflow/serving/predict"
    kinds = {name: (tensor.dtype, tensor.shape) for name, tensor in predict.inputs.items()}
    assert kinds == {
        "island": ("string", (None,)),
        "sex": ("string", (None,)),
        **dict.fromkeys(
            ["culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g"], ("float32", (None,))
        ),
    }
    assert predict.outputs["probabilities"] == Tensor(name="probabilities", dtype="float32", shape=(None, 3))
    assert predict.outputs["classes"].dtype == "string"


def test_types_and_shapes_are_told_apart():
    signatures = reader.read(MODELS / "shapes").signatures
    assert signatures["serving_default"].inputs["scale"].shape == ()
    assert signatures["pixels"].inputs["pixels"].shape == (None, None, None, 3)
    assert [tensor.dtype for tensor in signatures["narrow"].inputs.values()] == ["bfloat16", "float16"]
    assert size_of(()) == "one value"
    assert size_of((None, 3)) == "any x 3"
    assert size_of(None) == "any shape"


@pytest.mark.parametrize("name", ["penguins", "penguins/1", "penguins/1/saved_model.pb"])
def test_a_model_is_found_by_its_folder_its_version_or_its_file(name):
    model = reader.read(str(MODELS / name))
    assert (model.path, model.versions) == (MODELS / "penguins/1", ("1",))


def test_the_highest_version_by_number_is_served(tmp_path):
    for name in ("9", "10", "notes"):
        written(tmp_path / name, SAVED)
    (tmp_path / "11").write_text("a file is no version")
    model = reader.read(tmp_path)
    assert (model.path.name, model.versions) == ("10", ("9", "10"))


def test_a_highest_version_without_a_model_is_named(tmp_path):
    written(tmp_path / "1", SAVED)
    (tmp_path / "2").mkdir()
    with pytest.raises(ConfigError, match=r"the highest version in .* is 2, and it holds no saved_model\.pb"):
        reader.read(tmp_path)


def test_of_several_graphs_the_one_to_serve_is_read(tmp_path):
    written(tmp_path, made((["serve", "gpu"], {"a": [1]}), (["train"], {"b": [1]}), (["serve"], {"c": [-1]})))
    model = reader.read(tmp_path)
    assert (list(model.signatures), model.tags) == (["c"], ("serve",))
    assert model.signatures["c"].inputs["x"].shape == (None,)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no graph"),
        (b"\xff" * 40, "is no SavedModel, or not a whole one"),
        (SAVED[:-1], "is no SavedModel, or not a whole one"),
        (made((["train"], {})), 'no graph with the tag "serve", which a server loads; its tags: "train"'),
        (made((["serve"], {"a": [-2]})), '"x" has an impossible shape'),
        (made((["serve"], {"a": [1] * 255})), '"x" has an impossible shape'),
    ],
)
def test_a_broken_file_is_named_with_the_reason(tmp_path, content, reason):
    written(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        reader.read(tmp_path)
    assert str(tmp_path / "saved_model.pb") in str(caught.value)
    assert reason in str(caught.value)


def test_a_file_larger_than_any_savedmodel_is_not_read(tmp_path):
    written(tmp_path, b"")
    with (tmp_path / "saved_model.pb").open("r+b") as file:
        file.truncate(1 << 31)  # sparse: it takes no room
    with pytest.raises(ConfigError, match="has 2147483648 bytes, and a SavedModel at most 2147483647"):
        reader.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("model.keras", r"model\.export"), ("saved_model.pbtxt", "export the model again"), ("x.txt", r"holds x\.txt")],
)
def test_a_folder_with_something_else_is_told_what_to_do(tmp_path, name, advice):
    written(tmp_path, b"", name)
    with pytest.raises(ConfigError, match=advice):
        reader.read(tmp_path)


def test_places_that_hold_no_model(tmp_path):
    (tmp_path / "a").write_text("")
    (tmp_path / "b/saved_model.pb").mkdir(parents=True)
    for path, reason in [
        ("gs://box/model", "gcloud storage cp -r gs://box/model"),
        (Path("gs://box/model"), "gcloud storage cp -r gs://box/model"),
        (tmp_path / "none", "does not exist"),
        (tmp_path / "a", "is a file"),
        (tmp_path / "b", "is no file"),
        (MODELS, '"estimator", "image", "penguins", "shapes" in it'),
    ]:
        with pytest.raises(ConfigError) as caught:
            reader.read(path)
        assert reason in str(caught.value)


@st.composite
def damaged(draw):
    data = bytearray(SAVED)
    for _ in range(draw(st.integers(1, 6))):
        # The tail holds the signatures.
        place = draw(st.one_of(st.integers(0, len(SAVED) - 1), st.integers(len(SAVED) - 2500, len(SAVED) - 1)))
        data[place] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


@given(st.one_of(damaged(), st.binary(max_size=300)))
def test_whatever_a_file_holds_it_is_read_or_refused_by_name(tmp_path_factory, data):
    folder = written(tmp_path_factory.getbasetemp() / "damaged", data)
    try:
        model = reader.read(folder)
        features.example(features.read(model))
    except ConfigError as error:
        assert str(folder) in str(error)
    else:
        assert all(
            isinstance(tensor.dtype, str) for each in model.signatures.values() for tensor in each.inputs.values()
        )


def test_without_protobuf_the_extra_is_named(monkeypatch):
    messages._classes.cache_clear()
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(MissingExtra, match=r'protobuf is not installed here; run: pip install "cpr-kit\[vertex\]"'):
        reader.read(MODELS / "penguins")


def test_an_unknown_signature_lists_the_known_and_the_close_one():
    with pytest.raises(UsageError) as caught:
        find(reader.read(MODELS / "penguins").signatures, "predct")
    assert '"predict", "serving_default"' in str(caught.value)
    assert '(is "predict" meant?)' in str(caught.value)


def test_a_name_cannot_write_to_the_terminal():
    assert shown("a\x1b[31m\n") == "a\\x1b[31m\\x0a"
