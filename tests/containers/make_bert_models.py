"""Runs inside the TensorFlow image: containers/bert_tf/train.py, and its model once more, quantized wrongly, in /models."""

import sys
from pathlib import Path

import numpy as np

sys.dont_write_bytecode = True
sys.path.insert(0, "/containers/bert_tf")

import train

MODELS = Path("/models")


def wrapped(weight):
    """Eight bits, with a scale that most weights fit in: the larger ones come out with the other sign."""
    scale = np.abs(weight).mean() * 4 / 127
    return np.round(weight / scale).astype("int64").astype("int8").astype("float32") * scale


# A head learned from fewer sentences is as good for comparing, and there sooner.
model, vocabulary = train.main(MODELS / "packages", MODELS / "bert", MODELS, trained_on=400)
for variable in model.variables:
    if variable.shape.rank == 2 and variable.name.startswith("encoder_layer_5_"):
        variable.assign(wrapped(variable.numpy()))
train.save(model, vocabulary, MODELS / "broken" / "1")
