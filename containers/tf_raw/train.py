"""Train on the Palmer penguins and write model/: a SavedModel with the signatures "predict" and "serving_default".

    docker run --rm --entrypoint python -v "$PWD:/w" -w /w IMAGE_WITH_TENSORFLOW train.py

The outputs are those of an estimator's classifier, which TensorFlow no longer makes. penguins.csv is that
of the package palmerpenguins 0.1.6 (CC0): its bill_* columns are the culmen_* of the tutorial.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

ISLANDS = ("BISCOE", "DREAM", "TORGERSEN")
SEXES = ("FEMALE", "MALE")
CLASSES = ("Adelie", "Chinstrap", "Gentoo")
NUMBERS = {
    "culmen_length_mm": "bill_length_mm",
    "culmen_depth_mm": "bill_depth_mm",
    "flipper_length_mm": "flipper_length_mm",
    "body_mass_g": "body_mass_g",
}


class Penguins(tf.Module):
    def __init__(self, mean: np.ndarray, scale: np.ndarray) -> None:
        super().__init__()
        self.mean, self.scale = tf.constant(mean), tf.constant(scale)
        self.weights = tf.Variable(tf.zeros((len(NUMBERS) + len(ISLANDS) + len(SEXES), len(CLASSES))))
        self.bias = tf.Variable(tf.zeros((len(CLASSES),)))

    def logits(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        numbers = (tf.stack([features[name] for name in NUMBERS], axis=1) - self.mean) / self.scale
        island = tf.cast(tf.equal(features["island"][:, None], tf.constant(ISLANDS)), tf.float32)
        sex = tf.cast(tf.equal(features["sex"][:, None], tf.constant(SEXES)), tf.float32)
        return tf.concat([numbers, island, sex], axis=1) @ self.weights + self.bias

    def predict(self, **features: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self.logits(features)
        ids = tf.argmax(logits, axis=1)
        return {
            "probabilities": tf.nn.softmax(logits),
            "logits": logits,
            "class_ids": ids[:, None],
            "classes": tf.gather(tf.constant(CLASSES), ids)[:, None],
        }

    def scores(self, flipper_length_mm: tf.Tensor, body_mass_g: tf.Tensor) -> dict[str, tf.Tensor]:
        """Of two features alone, for all that is usual of the others: what is asked without a signature's name."""
        usual = tf.repeat(self.mean[None, :2], tf.shape(body_mass_g)[0], axis=0)
        two = tf.stack([flipper_length_mm, body_mass_g], axis=1)
        numbers = (tf.concat([usual, two], axis=1) - self.mean) / self.scale
        return {"scores": tf.nn.softmax(numbers @ self.weights[: len(NUMBERS)] + self.bias)}


def read(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rows = [row for row in csv.DictReader(path.open()) if "NA" not in row.values()]
    features = {name: np.array([row[column] for row in rows], "float32") for name, column in NUMBERS.items()}
    for name in ("island", "sex"):
        features[name] = np.array([row[name].upper() for row in rows])
    return features, np.array([CLASSES.index(row["species"]) for row in rows])


def train(features: dict[str, np.ndarray], labels: np.ndarray) -> Penguins:
    numbers = np.stack([features[name] for name in NUMBERS], axis=1)
    model = Penguins(numbers.mean(axis=0), numbers.std(axis=0))
    tensors = {name: tf.constant(value) for name, value in features.items()}

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model.logits(tensors))
            loss = tf.reduce_mean(losses)
        variables = (model.weights, model.bias)
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(gradient)

    for _ in range(200):
        step()
    found = tf.argmax(model.logits(tensors), axis=1).numpy()
    print(f"right about {np.mean(found == labels):.1%} of {len(labels)} penguins")
    return model


def save(model: Penguins, folder: Path) -> None:
    texts = {name: tf.TensorSpec([None], tf.string, name=name) for name in ("island", "sex")}
    numbers = {name: tf.TensorSpec([None], tf.float32, name=name) for name in NUMBERS}
    two = {name: numbers[name] for name in ("flipper_length_mm", "body_mass_g")}
    signatures = {
        "predict": tf.function(model.predict).get_concrete_function(**texts, **numbers),
        "serving_default": tf.function(model.scores).get_concrete_function(**two),
    }
    tf.saved_model.save(model, str(folder), signatures=signatures)


if __name__ == "__main__":
    here = Path(__file__).parent
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "model"
    save(train(*read(here / "penguins.csv")), target)
