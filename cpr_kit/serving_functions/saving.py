"""A serving function is traced, asked with a sample, saved once, and described in serving_function.json beside it."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cpr_kit.errors import UsageError
from cpr_kit.runtime.images import SIDECAR
from cpr_kit.serving_functions.network import Network, sizes, tensorflow

SIGNATURE = "serving_default"
SCORES, LABEL = "scores", "label"
_ROWS = 2  # one row alone would not show a model that mixes them, or fixes their number
_LONGEST = 300
_AROUND = ("Graph execution error", "Detected at node", "<stack traces", "[[")


@dataclass(frozen=True, kw_only=True)
class ServingFunction:
    """What was saved. `request` is a body that works, `response` the answer that the model gave to it here."""

    folder: str
    kind: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    labels: tuple[str, ...]
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input(self) -> str:
        """The name of the first input, and of the only one where there is one."""
        return next(iter(self.inputs))

    @property
    def sidecar(self) -> str:
        return f"{self.folder.rstrip('/')}/{SIDECAR}"

    def facts(self) -> dict[str, Any]:
        """As they stand in the sidecar."""
        return {
            "signature": SIGNATURE,
            "kind": self.kind,
            "input": self.input,
            "inputs": dict(self.inputs),
            "outputs": dict(self.outputs),
            "labels": list(self.labels),
            **self.details,
            "request": self.request,
            "response": self.response,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What differs between images, text and tables: how inputs become the model's tensor, and a sample of them.

    specs: tf.TensorSpec of each input, by name. decode: from the inputs by name to the tensor. sample: one instance in
    the values that TensorFlow takes; remedy: what to change when the model refuses what `decode` makes.
    """

    kind: str
    specs: Mapping[str, Any]
    decode: Callable[[Mapping[str, Any]], Any]
    sample: Mapping[str, Any]
    remedy: str
    details: Mapping[str, Any] = field(default_factory=dict)


def save(network: Network, folder: str | os.PathLike[str], plan: Plan, labels: Sequence[str] | None) -> ServingFunction:
    """Trace, ask, write. Raises UsageError, before anything is written, for a model that cannot answer the sample."""
    tf = tensorflow()
    folder = os.fspath(folder)
    _check_names(plan.specs)
    _check_empty(folder)
    names = tuple(str(label) for label in labels or ())

    call = tf.function(network.call)  # its own Python is converted, as it would be without us

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator, unused-ignore]
    def serve(**inputs: Any) -> dict[str, Any]:
        return _labelled(_named(call(plan.decode(inputs)), network.what), names)

    try:
        function = tf.function(serve).get_concrete_function(**plan.specs)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{network.what} does not take what it is given: {_short(error)}; {plan.remedy}") from error
    answer = _asked(function, network, plan)
    served = ServingFunction(
        folder=folder,
        kind=plan.kind,
        inputs={name: f"{spec.dtype.name} {sizes(tuple(spec.shape))}" for name, spec in plan.specs.items()},
        outputs={name: _described(spec) for name, spec in sorted(function.structured_outputs.items())},
        labels=names,
        request={"instances": [_json(plan.sample)]},
        response={"predictions": [_row(answer)]},
        details=plan.details,
    )
    _write(network, function, served)
    return served


def _write(network: Network, function: Any, served: ServingFunction) -> None:
    tf = tensorflow()
    holder = tf.Module()
    holder.model = network.model  # its tables and files
    holder.weights = list(function.variables)  # and those of a model that is a function
    try:
        tf.saved_model.save(holder, served.folder, signatures={SIGNATURE: function})
        with tf.io.gfile.GFile(served.sidecar, "w") as file:
            file.write(json.dumps(served.facts(), indent=1) + "\n")
    except AssertionError as error:  # by which TensorFlow refuses what it would not find again
        raise UsageError(
            f"{network.what} or its prepare function uses a variable or table that none of them owns, so it would not "
            "be saved; make it an attribute of the model, or give a Keras layer as prepare"
        ) from error
    except (OSError, tf.errors.OpError, ValueError) as error:
        raise UsageError(f"the model cannot be saved to {served.folder}: {_short(error)}") from error


def _check_empty(folder: str) -> None:
    """Another model's variables would stay beside the new one's."""
    files = tensorflow().io.gfile
    if files.exists(folder) and (not files.isdir(folder) or files.listdir(folder)):
        raise UsageError(f"{folder} is not empty; name a new folder, or remove this one first")


def _check_names(names: Mapping[str, Any]) -> None:
    for name in names:
        if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
            raise UsageError(
                f'"{name}" can be no name of an input; write it with letters, digits and _: '
                f'"{re.sub("[^A-Za-z0-9]+", "_", name).strip("_") or "x"}"'
            )


def _asked(function: Any, network: Network, plan: Plan) -> dict[str, Any]:
    """The answer to the sample, of the first of equal rows. Raises UsageError."""
    import numpy as np

    tf = tensorflow()
    tensors = {name: tf.constant([value] * _ROWS, plan.specs[name].dtype) for name, value in plan.sample.items()}
    try:
        outputs = {name: value.numpy() for name, value in function(**tensors).items()}
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise UsageError(f"{network.what} failed on a sample: {_short(error)}; {plan.remedy}") from error
    for name, value in sorted(outputs.items()):
        if value.ndim == 0 or len(value) != _ROWS:
            shape = sizes(value.shape)
            raise UsageError(
                f'{network.what} answers {_ROWS} instances with "{name}" of shape {shape}; the first size must be '
                "the number of instances"
            )
        if value.dtype.kind == "f" and not np.isfinite(value.astype(np.float64)).all():
            raise UsageError(f'{network.what} answers a sample with "{name}" that holds no number, NaN or infinity')
    return {name: value[0] for name, value in outputs.items()}


def _named(outputs: Any, what: str) -> dict[str, Any]:
    """The model's answer as outputs by name, which a signature has. Raises UsageError for what is no tensor."""
    if isinstance(outputs, Mapping):
        named = {str(name): value for name, value in outputs.items()}
    elif isinstance(outputs, (list, tuple)) and len(outputs) != 1:
        named = {f"{SCORES}_{number}": value for number, value in enumerate(outputs)}
    else:
        named = {SCORES: outputs[0] if isinstance(outputs, (list, tuple)) else outputs}
    for name, value in named.items():
        if not tensorflow().is_tensor(value):
            raise UsageError(f'{what} answers with "{name}" that is no tensor; return a tensor, or several by name')
    if not named:
        raise UsageError(f"{what} answers nothing; return a tensor, or several by name")
    return named


def _labelled(outputs: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """With the label of the highest score, where there are labels."""
    if not labels:
        return outputs
    tf = tensorflow()
    if len(outputs) != 1:
        raise UsageError(f"the model has the outputs {', '.join(sorted(outputs))}; labels go with one of scores")
    [scores] = outputs.values()
    size = None if scores.shape.rank is None else scores.shape[-1]
    if scores.shape.rank not in (None, 2) or size not in (None, len(labels)):
        raise UsageError(f"there are {len(labels)} labels, and the model answers {sizes(_dims(scores.shape))}; "
                         "give one label for each score")  # fmt: skip
    return {SCORES: scores, LABEL: tf.gather(tf.constant(list(labels)), tf.argmax(scores, axis=-1))}


def _dims(shape: Any) -> tuple[int | None, ...] | None:
    return None if shape.rank is None else tuple(shape.as_list())


def _described(spec: Any) -> str:
    return f"{spec.dtype.name} {sizes(_dims(spec.shape))}"


def _json(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in sample.items()
    }


def _row(answer: Mapping[str, Any]) -> Any:
    """As TensorFlow Serving writes it: a single output stands without its name."""
    values = {name: _plain(value.tolist() if hasattr(value, "tolist") else value) for name, value in answer.items()}
    return next(iter(values.values())) if len(values) == 1 else values


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _short(error: Exception) -> str:
    """TensorFlow's reason without the code that it quotes."""
    message = str(getattr(error, "message", None) or error)
    if message.startswith("in user code"):
        message = re.split(r"\n\s*\w*(?:Error|Exception): ", message)[-1]
    lines = [line.strip() for line in message.splitlines()]
    text = " ".join(line for line in lines if line and not line.startswith(_AROUND))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
