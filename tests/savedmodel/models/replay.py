"""Holds what the kit writes against the real libraries; run by hand where tensorflow-cpu is installed:

    python tests/savedmodel/models/replay.py RECORDS.json

and, for the golden files of warm-up requests, without an argument. RECORDS.json is a list of [model, signature, body].
It needs tensorflow-serving-api (installed with --no-deps) beside tensorflow-cpu.
"""

import base64
import json
import sys
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

HERE = Path(__file__).parent
FOLDERS = {
    "penguins": HERE / "penguins/1",
    "image": HERE / "image",
    "shapes": HERE / "shapes",
    "estimator": HERE / "estimator",
}


def replay(golden):
    """Each record as the server would: parsed by TensorFlow Serving's own messages, and called."""
    model = tf.saved_model.load(str(FOLDERS[golden.name.partition(".")[0]]))
    for record in tf.data.TFRecordDataset(str(golden)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        outputs = model.signatures[request.model_spec.signature_name](
            **{name: tf.constant(value, dtype=request.inputs[name].dtype) for name, value in inputs.items()}
        )
        shapes = {name: value.shape for name, value in inputs.items()}
        print(golden.name, request.model_spec.signature_name, shapes, "->", sorted(outputs))


def plain(value):
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return [plain(item) for item in value] if isinstance(value, list) else value


def ask(name, signature, body):
    """A body in the forms of TensorFlow Serving's REST API, by the real model."""
    function = tf.saved_model.load(str(FOLDERS[name])).signatures[signature]
    kinds = function.structured_input_signature[1]
    rows = body.get("instances")
    columns = body["inputs"] if rows is None else {key: [row[key] for row in rows] for key in rows[0]}
    outputs = function(**{key: tf.constant(plain(value), kinds[key].dtype) for key, value in columns.items()})
    print(name, signature, {key: value.numpy().tolist() for key, value in outputs.items()})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for asked in json.loads(Path(sys.argv[1]).read_text()):
            ask(*asked)
    else:
        for golden in sorted(HERE.glob("*.warmup")):
            replay(golden)
