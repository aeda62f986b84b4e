"""Decoding of image files fused to a model: clients send JPEG or PNG in base64, no code runs beside the model.

The pure-Python twin is `ImagePreprocessor`; both give the same pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from cpr_kit.errors import UsageError
from cpr_kit.runtime import pixels
from cpr_kit.runtime.pixels import Form
from cpr_kit.serving_functions import network, saving
from cpr_kit.serving_functions.network import Network, tensorflow
from cpr_kit.serving_functions.saving import Plan, ServingFunction

_SAMPLE = (48, 64)
_RANK = 4


def attach_image_serving(
    model: Any,
    folder: str | os.PathLike[str],
    *,
    size: Sequence[int] | None = None,
    scale: float = 1 / 255,
    channels: int | None = None,
    labels: Sequence[str] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    layout: str = "hwc",
    input_name: str = "bytes_inputs",
) -> ServingFunction:
    """Save a Keras model, tf.Module, loaded SavedModel or tf.function so that it takes image files.

    `size` and `channels` are the model's own where it says them. Pixels of 0 to 255 are multiplied by `scale`, resized
    (bilinear), then `mean` is taken off and `std` divides. With `labels` the answers are objects of scores and label.
    EXIF orientation is not looked at, as tf.io.decode_jpeg does not. Raises UsageError naming what does not fit.
    """
    found = network.of(model)
    form = _form(found, size, scale, mean, std, channels, layout)
    remedy = f"size={form.size}, channels={form.channels} and layout={form.layout} say what it is given"
    found.check((None, *form.shape), "float32", remedy)
    dtype = _dtype(found, form)
    tf = tensorflow()
    plan = Plan(
        kind="image",
        specs={input_name: tf.TensorSpec([None], tf.string, name=input_name)},
        decode=lambda inputs: tf.cast(decoded(inputs[input_name], form), dtype),
        sample={input_name: _sample(form)},
        remedy=remedy,
        details={"image": form.facts()},
    )
    return saving.save(found, folder, plan, labels)


def decoded(files: Any, form: Form) -> Any:
    """The graph from a batch of files to float32 images."""
    tf = tensorflow()

    def one(data: Any) -> Any:
        # Despite its name it takes PNG too. The method is the exact one, which is what Pillow has as well.
        image = tf.io.decode_jpeg(data, channels=form.channels, dct_method="INTEGER_ACCURATE")
        image = tf.ensure_shape(image, [None, None, form.channels])  # animations have a dimension more
        return tf.image.resize(tf.cast(image, tf.float32) * form.scale, form.size)

    shape = (*form.size, form.channels)
    images = tf.map_fn(one, files, fn_output_signature=tf.TensorSpec(shape, tf.float32))
    if form.mean:
        images = images - tf.constant(form.mean, tf.float32)
    if form.std:
        images = images / tf.constant(form.std, tf.float32)
    return tf.transpose(images, [0, 3, 1, 2]) if form.layout == "chw" else images


def _form(
    found: Network,
    size: Sequence[int] | None,
    scale: float,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    channels: int | None,
    layout: str,
) -> Form:
    """With what the model itself says of its input where nothing was given."""
    shape = found.shape if found.shape is not None and len(found.shape) == _RANK else (None,) * _RANK
    height, width, depth = shape[1:] if layout != "chw" else (*shape[2:], shape[1])
    if size is None:
        if height is None or width is None:
            raise UsageError(f"{found.what} does not say which size it takes; give it: size=(224, 224)")
        size = (height, width)
    if channels is None:
        channels = depth if depth is not None else 3
    return pixels.form(tuple(size), scale, mean, std, channels, layout)


def _dtype(found: Network, form: Form) -> str:
    """Of the tensor that the model gets. Whole numbers are only given where nothing scales them."""
    dtype = found.dtype or "float32"
    if dtype.startswith(("int", "uint")) and (form.scale != 1 or form.mean or form.std):
        raise UsageError(
            f"{found.what} takes {dtype}, and scaled pixels are fractions; give scale=1, without mean and std"
        )
    return dtype


def _sample(form: Form) -> bytes:
    """A JPEG in all colours, larger than most so that it is resized."""
    tf = tensorflow()
    height, width = _SAMPLE
    down = tf.linspace(0.0, 255.0, height)[:, None] * tf.ones((1, width))
    along = tf.ones((height, 1)) * tf.linspace(255.0, 0.0, width)[None, :]
    image = tf.stack([down, along, (down + along) / 2], axis=-1)[..., : form.channels]
    data: bytes = tf.io.encode_jpeg(tf.cast(image, tf.uint8)).numpy()
    return data
