"""Serving functions over HTTP, on the stand-in for TensorFlow Serving, and the same files on the path without it."""

import base64
import contextlib
import importlib.util
import json

import numpy as np
import pytest

from cpr_kit import ImagePreprocessor, Predictor
from cpr_kit.compat.local_model import LocalModel
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.errors import LackingError
from cpr_kit.savedmodel import reader
from cpr_kit.serving_functions.images import attach_image_serving


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed here")
def test_without_tensorflow_it_says_what_to_install(tmp_path):
    with pytest.raises(LackingError, match="pip install tensorflow-cpu"):
        attach_image_serving(lambda images: images, str(tmp_path / "model"), size=(4, 4))


def instances(files, name="bytes_inputs"):
    return [{name: {"b64": base64.b64encode(data).decode()}} for data in files.values()]


@pytest.fixture(scope="module")
def serve(world):
    """serve(name) -> the endpoint of that model; each is started once."""
    with contextlib.ExitStack() as stack:
        running = {}

        def served(name):
            if name not in running:
                model = LocalModel.tf_serving(world.folder / name, name, image=world.image, engine=DockerEngine())
                running[name] = stack.enter_context(model.deploy_to_local_endpoint())
            return running[name]

        yield served


class Dense(Predictor):
    """The network of `Dense` in make_served.py, without TensorFlow."""

    def load(self, artifacts_uri):
        self.images = ImagePreprocessor.from_folder(f"{artifacts_uri}/module/1")
        self.weights = np.load(f"{artifacts_uri}/weights.npy")

    def preprocess(self, prediction_input):
        return self.images(prediction_input)

    def predict(self, images):
        pixels = images.reshape(len(images), -1)
        return {"predictions": [{"scores": row @ self.weights, "pixels": row} for row in pixels]}


@pytest.mark.engine
@pytest.mark.heavy
def test_a6_1_a_keras_model_answers_as_decoding_resizing_and_calling_it(world, serve):
    answer = serve("keras").predict(instances=instances(world.files)).predictions
    expected = np.array(list(world.made["keras"].values()))
    assert np.abs(np.array([row["scores"] for row in answer]) - expected).max() < 1e-5
    labels = world.made["keras_facts"]["labels"]
    assert [row["label"] for row in answer] == [labels[number] for number in expected.argmax(axis=1)]
    assert np.ptp(expected, axis=0).min() > 1e-3  # it tells the photographs apart
    assert world.made["saves"] == ["keras/1", "module/1"]  # once each


@pytest.mark.engine
@pytest.mark.heavy
def test_a6_1_a_module_answers_as_decoding_resizing_and_calling_it(world, serve):
    answer = serve("module").predict(instances=instances(world.files)).predictions
    expected = np.array(list(world.made["module"].values()))
    assert np.abs(np.array([row["scores"] for row in answer]) - expected).max() < 1e-5


@pytest.mark.engine
@pytest.mark.heavy
def test_a6_1_the_sidecars_body_works_unedited(world, serve):
    facts = json.loads((world.folder / "keras" / "1" / "serving_function.json").read_text())
    assert facts == world.made["keras_facts"]
    assert facts["input"] in reader.read(world.folder / "keras").signatures[facts["signature"]].inputs
    [answer] = serve("keras").predict(instances=facts["request"]["instances"]).predictions
    [expected] = facts["response"]["predictions"]
    assert answer["label"] == expected["label"]
    assert answer["scores"] == pytest.approx(expected["scores"], abs=1e-5)


@pytest.mark.engine
@pytest.mark.heavy
def test_a6_2_the_tutorials_cells_give_a_folder_that_serves(world, serve):
    assert list(reader.read(world.folder / "cell").signatures["serving_default"].inputs) == ["bytes_inputs"]
    photo = {"00_photo.jpg": world.files["00_photo.jpg"]}
    [answer] = serve("cell").predict(instances=instances(photo)).predictions
    assert answer == pytest.approx(world.made["cell"], abs=1e-5)


@pytest.mark.engine
@pytest.mark.heavy
def test_a7_5_a_single_input_stands_without_its_name_in_rows_and_in_columns(world, serve):
    named = instances({name: world.files[name] for name in ("00_photo.jpg", "01_photo.jpg")})
    bare = [each["bytes_inputs"] for each in named]
    rows = serve("cell").predict(instances=named).predictions
    for body, key in (
        ({"instances": bare}, "predictions"),
        ({"inputs": bare}, "outputs"),
        ({"inputs": {"bytes_inputs": bare}}, "outputs"),
    ):
        answer = serve("cell").raw(json.dumps(body).encode(), "application/json").json()
        assert answer.keys() == {key}
        np.testing.assert_allclose(answer[key], rows, atol=1e-6)


@pytest.mark.engine
@pytest.mark.heavy
def test_a6_3_what_the_graph_cannot_decode_is_a_400_and_the_server_lives(world, serve):
    photo = world.files["00_photo.jpg"]
    endpoint = serve("module")
    before = endpoint.predict(instances=instances({"": photo})).predictions
    for instance, said in (
        ({"b64": base64.b64encode(photo[:-500]).decode()}, "Invalid JPEG data"),
        ({"b64": base64.b64encode(b"no image").decode()}, "Unknown image file format"),
        ({"b64": "not base64"}, "base64"),
    ):
        answer = endpoint.raw(json.dumps({"instances": [instance]}).encode(), "application/json")
        assert answer.status_code == 400
        assert said in answer.json()["error"]
    assert endpoint.predict(instances=instances({"": photo})).predictions == before


@pytest.mark.engine
@pytest.mark.heavy
def test_a6_4_both_paths_agree_on_20_images(world, serve):
    """Scores, and each pixel that the network was given."""
    predictor = Dense()
    predictor.load(str(world.folder))
    request = {"instances": instances(world.files)}
    ours = predictor.predict(predictor.preprocess(request))["predictions"]
    fused = serve("module").predict(instances=request["instances"]).predictions
    assert len(fused) == len(ours) == 20
    for name in ("scores", "pixels"):
        apart = np.array([np.abs(a[name] - np.array(b[name])).max() for a, b in zip(ours, fused, strict=True)])
        assert apart.max() < 1e-5, dict(zip(world.files, apart.tolist(), strict=True))


@pytest.mark.engine
@pytest.mark.heavy
def test_grey_whole_numbers_and_loaded_and_unbuilt_models(world):
    made = world.made
    assert made["loaded"] == pytest.approx(made["module"]["00_photo.jpg"], abs=1e-5)
    assert made["never_called"] < 1e-6
    images = ImagePreprocessor.from_folder(str(world.folder / "grey"))
    grey = images({"instances": [world.files["00_photo.jpg"]]})
    assert grey.shape == (1, 1, 8, 8)
    assert made["grey"] == 2 * np.floor(grey).sum()  # a cast to whole numbers cuts off


@pytest.mark.engine
@pytest.mark.heavy
def test_text_rows_and_examples_answer_as_the_model_called(world):
    made = world.made
    assert made["text"] < 1e-6
    assert made["text_label"][0] == made["text_label"][1]
    assert made["table"] < 1e-6
    assert made["examples"] < 1e-6
    for kind, name in (("text", "text"), ("table", "age"), ("examples", "examples")):
        facts = json.loads((world.folder / kind / "serving_function.json").read_text())
        assert facts["input"] == name
        assert list(facts["request"]["instances"][0]) == list(facts["inputs"])


REFUSALS = {
    "no text": "Invalid formatting on input string",
    "no age": "Feature: age (data type: float) is required but could not be found",
    "takes text": "the loaded SavedModel takes string (?), and would be given float32 (?, 32, 48, 3)",
    "another size": "takes float32 (?, 32, 48, 3), and would be given float32 (?, 64, 64, 3); size=(64, 64)",
    "another depth": "takes float32 (?, 32, 48, 3), and would be given float32 (?, 32, 48, 1)",
    "no size": "does not say which size it takes; give it: size=(224, 224)",
    "two inputs": "takes 2 inputs (left, right); a serving function feeds one",
    "not callable": "cannot be called and has no signature; give its class a __call__",
    "too few labels": "there are 1 labels, and the model answers (?, 3); give one label for each score",
    "whole numbers": "takes uint8, and scaled pixels are fractions; give scale=1, without mean and std",
    "a wrong batch": 'answers 2 instances with "scores" of shape (1)',
    "no numbers": 'answers a sample with "scores" that holds no number',
    "a fault of its own": "does not take what it is given: Dimensions must be equal, but are 3 and 5",
    "no answer": 'answers with "scores" that is no tensor',
    "an owner": "uses a variable or table that none of them owns, so it would not be saved",
    "a name": '"bytes inputs" can be no name of an input; write it with letters, digits and _: "bytes_inputs"',
    "not empty": "/models/keras/1 is not empty; name a new folder, or remove this one first",
    "text for a table": "takes float32 (?, 2), and would be given string (?); give prepare=",
    "three features": "takes float32 (?, 2), and would be given float32 (?, 3); features has 3 names",
}


@pytest.mark.engine
@pytest.mark.heavy
def test_what_does_not_fit_is_named_before_anything_is_written(world):
    assert world.made["refused"].keys() == REFUSALS.keys()
    for name, said in REFUSALS.items():
        assert said in (world.made["refused"][name] or "nothing"), name
    assert not world.made["nowhere"]
