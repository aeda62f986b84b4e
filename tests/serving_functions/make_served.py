"""Runs inside the TensorFlow image, on the photographs in /models/photos: writes models with serving functions to /models.

made.json says what they answer in this process, and how what does not fit was refused.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cpr_kit.errors import UsageError
from cpr_kit.serving_functions.images import attach_image_serving
from cpr_kit.serving_functions.tabular import attach_example_serving, attach_tabular_serving
from cpr_kit.serving_functions.text import attach_text_serving

MODELS = Path(sys.argv[1] if len(sys.argv) > 1 else "/models")
FILES = {path.name: path.read_bytes() for path in sorted((MODELS / "photos").iterdir())}
PHOTOS = {name: data for name, data in FILES.items() if not name.startswith("bad_")}
SIZE = (32, 48)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LABELS = ("flower", "temple", "other")

keras.utils.set_random_seed(0)
random = np.random.default_rng(0)
saves = []
save = tf.saved_model.save


def counted(model, folder, **options):
    saves.append(str(folder))
    return save(model, folder, **options)


tf.saved_model.save = counted


def refusal(attach, *arguments, **options):
    try:
        attach(*arguments, **options)
    except UsageError as error:
        return str(error)
    return None


def by_hand(data, size):
    image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.image.resize(tf.image.convert_image_dtype(image, tf.float32), size)[None]


class Dense(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(random.normal(0, 0.02, (SIZE[0] * SIZE[1] * 3, 3)).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([None, *SIZE, 3], tf.float32, name="numpy_inputs")])
    def __call__(self, images):
        pixels = tf.reshape(images, [-1, SIZE[0] * SIZE[1] * 3])
        return {"scores": pixels @ self.weights, "pixels": pixels}


made = {"refused": {}}
network = keras.Sequential([
    keras.Input((*SIZE, 3)), keras.layers.Conv2D(4, 3, strides=2, activation="relu"), keras.layers.Dropout(0.5),
    keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax"),
])  # fmt: skip
served = attach_image_serving(network, str(MODELS / "keras" / "1"), labels=LABELS)
made["keras"] = {name: network(by_hand(data, SIZE)).numpy()[0].tolist() for name, data in PHOTOS.items()}
made["keras_facts"] = served.facts()

dense = Dense()
attach_image_serving(dense, str(MODELS / "module" / "1"), mean=MEAN, std=STD)
np.save(MODELS / "weights.npy", dense.weights.numpy())
made["module"] = {
    name: dense((by_hand(data, SIZE) - MEAN) / STD)["scores"].numpy()[0].tolist() for name, data in PHOTOS.items()
}
made["saves"] = [str(Path(each).relative_to(MODELS)) for each in saves]

# A SavedModel that was loaded, one that was never called, and a function of grey whole numbers, channels first.
save(dense, str(MODELS / "raw"), signatures=dense.__call__)
loaded = tf.saved_model.load(str(MODELS / "raw"))
attach_image_serving(loaded, str(MODELS / "loaded"), mean=MEAN, std=STD)
del loaded
photo = PHOTOS["00_photo.jpg"]
again = tf.saved_model.load(str(MODELS / "loaded")).signatures["serving_default"]
made["loaded"] = again(bytes_inputs=tf.constant([photo]))["scores"].numpy()[0].tolist()
never_called = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
attach_image_serving(never_called, str(MODELS / "never_called"), size=(4, 4))
again = tf.saved_model.load(str(MODELS / "never_called")).signatures["serving_default"]
found = again(bytes_inputs=tf.constant([photo]))["scores"].numpy()
made["never_called"] = float(np.abs(found - never_called(by_hand(photo, (4, 4))).numpy()).max())
first = tf.Module()
first.gain = tf.Variable(2.0)
options = {"size": (8, 8), "channels": 1, "layout": "chw", "scale": 1}
whole = tf.function(
    lambda x: tf.cast(tf.reduce_sum(tf.cast(x, tf.float32), [1, 2, 3]), tf.float32)[:, None] * first.gain,
    input_signature=[tf.TensorSpec([None, 1, 8, 8], tf.uint8)],
)
attach_image_serving(whole, str(MODELS / "grey"), **options)
again = tf.saved_model.load(str(MODELS / "grey")).signatures["serving_default"]
made["grey"] = float(again(bytes_inputs=tf.constant([photo]))["scores"][0, 0])

text = keras.layers.TextVectorization(output_mode="multi_hot")
text.adapt(["good film", "bad film"])
words = keras.Sequential([keras.Input((text.vocabulary_size(),)), keras.layers.Dense(2)])
attach_text_serving(words, MODELS / "text", prepare=text, labels=("bad", "good"))
asked = tf.saved_model.load(str(MODELS / "text")).signatures["serving_default"]
answer = asked(text=tf.constant(["a good film"]))
expected = words(text(tf.constant(["a good film"]))).numpy()
made["text"] = float(np.abs(answer["scores"].numpy() - expected).max())
made["text_label"] = [answer["label"].numpy()[0].decode(), ("bad", "good")[expected.argmax()]]
try:
    asked(text=tf.constant([b"\xff\xfe"]))
except tf.errors.InvalidArgumentError as error:
    made["refused"]["no text"] = error.message

rows = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
table = {"features": ("age", "income"), "mean": (30.0, 2.0), "std": (10.0, 0.5)}
expected = rows(np.array([[0.1, 1.0]], "float32")).numpy()
attach_tabular_serving(rows, str(MODELS / "table"), **table)
asked = tf.saved_model.load(str(MODELS / "table")).signatures["serving_default"]
found = asked(age=tf.constant([31.0]), income=tf.constant([2.5]))["scores"].numpy()
made["table"] = float(np.abs(found - expected).max())
attach_example_serving(rows, str(MODELS / "examples"), defaults={"income": 2.5}, **table)
asked = tf.saved_model.load(str(MODELS / "examples")).signatures["serving_default"]
example = tf.train.Example()
example.features.feature["age"].float_list.value.append(31.0)
found = asked(examples=tf.constant([example.SerializeToString()]))["scores"].numpy()
made["examples"] = float(np.abs(found - expected).max())
try:
    asked(examples=tf.constant([tf.train.Example().SerializeToString()]))
except tf.errors.InvalidArgumentError as error:
    made["refused"]["no age"] = error.message

# The tutorial's cells for a serving function, with a small network in place of the one from the hub.
tfhub_model = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
CONCRETE_INPUT = "numpy_inputs"


def _preprocess(bytes_input):
    decoded = tf.io.decode_jpeg(bytes_input, channels=3)
    decoded = tf.image.convert_image_dtype(decoded, tf.float32)
    return tf.image.resize(decoded, size=SIZE)


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def preprocess_fn(bytes_inputs):
    decoded_images = tf.map_fn(_preprocess, bytes_inputs, dtype=tf.float32, back_prop=False)
    return {CONCRETE_INPUT: decoded_images}


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def serving_fn(bytes_inputs):
    images = preprocess_fn(bytes_inputs)
    return m_call(**images)


m_call = tf.function(tfhub_model.call).get_concrete_function(
    [tf.TensorSpec(shape=[None, *SIZE, 3], dtype=tf.float32, name=CONCRETE_INPUT)]
)
tf.saved_model.save(tfhub_model, str(MODELS / "cell" / "1"), signatures={"serving_default": serving_fn})
made["cell"] = tfhub_model(_preprocess(photo)[None]).numpy()[0].tolist()

two = keras.Model(
    inputs=(pair := [keras.Input((4,), name="left"), keras.Input((4,), name="right")]), outputs=keras.layers.Add()(pair)
)
nowhere = str(MODELS / "nowhere")
text_model = tf.saved_model.load(str(MODELS / "text"))
for name, model, options in (
    ("takes text", text_model, {"size": SIZE}),
    ("another size", network, {"size": (64, 64)}),
    ("another depth", network, {"channels": 1}),
    ("no size", keras.Sequential([keras.layers.Flatten()]), {}),
    ("two inputs", two, {"size": SIZE}),
    ("not callable", tf.Module(), {"size": SIZE}),
    ("too few labels", network, {"labels": ("flower",)}),
    ("whole numbers", whole, {"size": (8, 8), "channels": 1, "layout": "chw"}),
    ("a wrong batch", tf.function(lambda x: tf.reduce_sum(x)[None]), {"size": SIZE}),
    ("no numbers", tf.function(lambda x: tf.reduce_sum(x, [1, 2, 3]) * float("nan")), {"size": SIZE}),
    ("a fault of its own", tf.function(lambda x: tf.matmul(x, tf.ones((5, 5)))), {"size": SIZE}),
    ("no answer", tf.function(lambda x: None), {"size": SIZE}),
    ("a name", network, {"input_name": "bytes inputs"}),
):
    made["refused"][name] = refusal(attach_image_serving, model, nowhere, **options)
made["refused"]["not empty"] = refusal(attach_image_serving, network, str(MODELS / "keras" / "1"))
made["refused"]["text for a table"] = refusal(attach_text_serving, rows, nowhere)
table_of_none = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [1.0]), 0.0)
made["refused"]["an owner"] = refusal(
    attach_text_serving, tf.function(lambda x: x), nowhere, prepare=lambda text: table_of_none.lookup(text)[:, None]
)
made["refused"]["three features"] = refusal(attach_tabular_serving, rows, nowhere, features=("a", "b", "c"))
made["nowhere"] = Path(nowhere).exists()
(MODELS / "made.json").write_text(json.dumps(made))
