"""Decoding of rows fused to a model: clients send features by name, or serialised tf.train.Example messages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from cpr_kit.errors import UsageError
from cpr_kit.serving_functions import network, saving
from cpr_kit.serving_functions.network import Network, tensorflow
from cpr_kit.serving_functions.saving import Plan, ServingFunction


def attach_tabular_serving(
    model: Any,
    folder: str | os.PathLike[str],
    *,
    features: Sequence[str],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
) -> ServingFunction:
    """Save a model of (n, features) numbers so that an instance is an object: {"age": 31, "income": 2.5}.

    `features` are the names in the model's order. `mean` is taken off and `std` divides, one number for each.
    Raises UsageError naming what does not fit.
    """
    tf = tensorflow()
    names = _names(features)
    found = _checked(model, names)
    _check_statistics(names, mean, std)
    plan = Plan(
        kind="tabular",
        specs={name: tf.TensorSpec([None], tf.float32, name=name) for name in names},
        decode=lambda inputs: _standardised(tf.stack([inputs[name] for name in names], axis=1), found, mean, std),
        sample=dict.fromkeys(names, 0.5),
        remedy=f"it is given the {len(names)} features in their order",
        details={"features": list(names)},
    )
    return saving.save(found, folder, plan, labels)


def attach_example_serving(
    model: Any,
    folder: str | os.PathLike[str],
    *,
    features: Sequence[str],
    defaults: Mapping[str, float] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
    input_name: str = "examples",
) -> ServingFunction:
    """Save a model of (n, features) numbers so that an instance is a serialised tf.train.Example, in base64.

    Each feature is one float; a message without it is refused unless `defaults` has a value.
    Raises UsageError naming what does not fit.
    """
    tf = tensorflow()
    names = _names(features)
    found = _checked(model, names)
    _check_statistics(names, mean, std)
    unknown = sorted(set(defaults or {}) - set(names))
    if unknown:
        raise UsageError(f"defaults has {', '.join(unknown)}; the features are {', '.join(names)}")
    given = dict(defaults or {})
    parsed = {name: tf.io.FixedLenFeature([], tf.float32, given.get(name)) for name in names}

    def decode(inputs: Any) -> Any:
        rows = tf.io.parse_example(inputs[input_name], parsed)
        return _standardised(tf.stack([rows[name] for name in names], axis=1), found, mean, std)

    example = tf.train.Example()
    for name in names:
        example.features.feature[name].float_list.value.append(0.5)
    plan = Plan(
        kind="tf.train.Example",
        specs={input_name: tf.TensorSpec([None], tf.string, name=input_name)},
        decode=decode,
        sample={input_name: example.SerializeToString(deterministic=True)},
        remedy=f"it is given the {len(names)} features in their order",
        details={"features": list(names)},
    )
    return saving.save(found, folder, plan, labels)


def _names(features: Sequence[str]) -> tuple[str, ...]:
    names = (features,) if isinstance(features, str) else tuple(features)
    if not names or len(set(names)) != len(names):
        raise UsageError("features must name each value of a row once, in the model's order")
    return names


def _checked(model: Any, names: Sequence[str]) -> Network:
    found = network.of(model)
    found.check((None, len(names)), "float32", f"features has {len(names)} names")
    return found


def _check_statistics(names: Sequence[str], mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != len(names):
            raise UsageError(f"{name} has {len(values)} numbers, and there are {len(names)} features")
    if std is not None and any(value == 0 for value in std):
        raise UsageError("std holds 0, and values are divided by it")


def _standardised(rows: Any, found: Network, mean: Sequence[float] | None, std: Sequence[float] | None) -> Any:
    tf = tensorflow()
    if mean is not None:
        rows = rows - tf.constant(list(mean), tf.float32)
    if std is not None:
        rows = rows / tf.constant(list(std), tf.float32)
    return tf.cast(rows, found.dtype or "float32")
