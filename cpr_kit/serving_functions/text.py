"""Decoding of text fused to a model: clients send strings, and the vocabulary is in the graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from cpr_kit.errors import UsageError
from cpr_kit.serving_functions import network, saving
from cpr_kit.serving_functions.network import Network, tensorflow
from cpr_kit.serving_functions.saving import Plan, ServingFunction


def attach_text_serving(
    model: Any,
    folder: str | os.PathLike[str],
    *,
    prepare: Callable[[Any], Any] | None = None,
    labels: Sequence[str] | None = None,
    input_name: str = "text",
    sample: str = "a short sample of text",
) -> ServingFunction:
    """Save a model so that it takes text: `prepare`, a TextVectorization layer for instance, makes its tensor of it.

    Without `prepare` the model itself takes strings. Text that is no UTF-8 is refused by the graph. A tf.function that
    is `prepare` must own its tables, as a Keras layer does. Raises UsageError naming what does not fit.
    """
    tf = tensorflow()
    found = network.of(model)
    if prepare is None:
        found.check((None,), "string", "give prepare=, which makes that of text: a TextVectorization layer")
    elif not callable(prepare):
        raise UsageError("prepare cannot be called; give a layer or a function from a batch of strings to a tensor")

    def decode(inputs: Any) -> Any:
        text = tf.strings.unicode_transcode(inputs[input_name], "UTF-8", "UTF-8", errors="strict")
        tensor = text if prepare is None else prepare(text)
        return tensor if found.dtype in (None, tensor.dtype.name) else tf.cast(tensor, found.dtype)

    plan = Plan(
        kind="text",
        specs={input_name: tf.TensorSpec([None], tf.string, name=input_name)},
        decode=decode,
        sample={input_name: sample},
        remedy="prepare= makes of a batch of strings what it is given",
    )
    owner = tf.Module()
    owner.model, owner.prepare = found.model, prepare
    return saving.save(
        Network(call=found.call, model=owner, what=found.what, shape=found.shape, dtype=found.dtype),
        folder,
        plan,
        labels,
    )
