"""Runs inside the TensorFlow image: writes the containers' models, and two for compilation, into the folder /models."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

MODELS = Path("/models")
WARM_UP_SIZES = (4, 8)
ASKED_SIZES = (1, 3, 4, 5, 8)


class Dense(tf.Module):
    def __init__(self):
        super().__init__()
        random = np.random.default_rng(0)
        self.weights = tf.Variable(random.normal(size=(16, 3)).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, name="x")])
    def serve(self, x):
        return {"y": tf.nn.softmax(x @ self.weights)}

    @tf.function(
        input_signature=[tf.TensorSpec([None, 16], tf.float32, name="x"), tf.TensorSpec([], tf.float32, name="scale")]
    )
    def scaled(self, x, scale=tf.constant(2.0)):
        return {"sum": scale * tf.reduce_sum(x, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, name="x")])
    def wave(self, x):
        return {"w": tf.complex(x, x)}


def warm_up(folder, sizes):
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for size in sizes:
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = "serving_default"
            request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.zeros((size, 16), "float32")))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def answers(folder):
    """What the saved model answers in this process, to what the tests ask the servers."""
    loaded = tf.saved_model.load(str(folder))
    found = {}
    for size in ASKED_SIZES:
        instances = np.random.default_rng(size).normal(size=(size, 16)).astype("float32").round(3)
        predictions = loaded.signatures["serving_default"](x=tf.constant(instances))["y"].numpy()
        found[size] = {"instances": instances.tolist(), "predictions": predictions.tolist()}
    return found


for program, target in (("tf_raw", "penguins"), ("tf_serving", "colours")):
    sys.argv[1:] = [str(MODELS / target)]
    runpy.run_path(f"/containers/{program}/train.py", run_name="__main__")
for name, sizes in (("cold", ()), ("warm", WARM_UP_SIZES)):
    folder = MODELS / name / "1"
    model = Dense()
    signatures = {"serving_default": model.serve, "scaled": model.scaled, "wave": model.wave}
    tf.saved_model.save(model, str(folder), signatures=signatures)
    if sizes:
        warm_up(folder, sizes)
(MODELS / "dense.json").write_text(json.dumps(answers(MODELS / "cold" / "1")))
