"""How a signature is computed: as it was saved, or compiled by XLA, with its weights rounded where that is asked for.

That is what can be had in the open of the optimized TensorFlow runtime's `allow_precompilation`, `allow_compression`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from cpr_kit.model_server.batching import Run
from cpr_kit.model_server.signature import Arrays, Signature
from cpr_kit.model_server.status import ServingError

logger = logging.getLogger(__name__)

_CANNOT_COMPILE = ("unsupported operations when trying to compile", "XLA", "must be a compile-time constant")


class Compilations:
    """Counts what was compiled, and says it in the log."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self, signature: str, tensors: dict[str, Any]) -> None:
        with self._lock:
            self.count += 1
            shapes = ", ".join(f"{name} {tensor.shape}" for name, tensor in sorted(tensors.items()))
            logger.info('compiled signature "%s" for %s; compilations so far: %d', signature, shapes, self.count)


def plain(function: Any, signature: Signature) -> Run:
    def run(inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        return _computed(function, _tensors(inputs, signature))

    return run


def compiled(function: Any, signature: Signature, compilations: Compilations) -> Run:
    """Compiled at the first request of each shape. What XLA cannot compile is computed as it was saved, and said so."""
    import tensorflow as tf

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator, unused-ignore]
    def traced(tensors: dict[str, Any]) -> Any:
        compilations.add(signature.name, tensors)  # runs once for each combination of shapes, which XLA then compiles
        return function(**tensors)

    as_saved = plain(function, signature)
    refused = threading.Event()

    def run(inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        if not refused.is_set():
            try:
                return _computed(lambda **tensors: traced(tensors), _tensors(inputs, signature))
            except ServingError as error:
                if not any(words in error.message for words in _CANNOT_COMPILE):
                    raise
                refused.set()
                logger.warning('signature "%s" cannot be compiled and serves as saved: %s', signature.name, error)
        return as_saved(inputs)

    if any(tensor.dtype is None for tensor in signature.inputs.values()):
        logger.warning(
            'signature "%s" takes text or bytes, which XLA cannot compile: it serves as saved', signature.name
        )
        return as_saved
    return run


def compress(functions: Iterable[Any]) -> int:
    """Round each floating point weight of two or more dimensions to bfloat16; how many there were."""
    import tensorflow as tf

    done = set()
    for function in functions:
        for variable in function.variables:
            if variable.dtype in (tf.float32, tf.float64) and variable.shape.rank >= 2 and variable.ref() not in done:  # noqa: PLR2004  vectors are biases and scales: small, and felt
                variable.assign(tf.cast(tf.cast(variable, tf.bfloat16), variable.dtype))
                done.add(variable.ref())
    return len(done)


def _tensors(inputs: Arrays, signature: Signature) -> dict[str, Any]:
    """The loaded function knows no defaults: what the request leaves out is put in here."""
    import tensorflow as tf

    return {
        name: tf.constant(value, dtype=tf.string if signature.inputs[name].dtype is None else None)
        for name, value in {**signature.defaults, **inputs}.items()
    }


def _computed(function: Any, tensors: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Raises ServingError with the code and the words of TensorFlow's error."""
    import tensorflow as tf

    try:
        outputs = function(**tensors)
    except tf.errors.OpError as error:
        raise ServingError.numbered(error.error_code, error.message) from error
    except (TypeError, ValueError) as error:  # shapes that TensorFlow refuses as it traces
        raise ServingError("INVALID_ARGUMENT", str(error).strip()) from error
    # Of no dimensions, text comes as bytes and not as an array.
    return {
        name: value if isinstance(value, np.ndarray) else np.array(value, dtype=_object_or_own(value))
        for name, value in ((name, outputs[name].numpy()) for name in sorted(outputs))
    }


def _object_or_own(value: Any) -> Any:
    return object if isinstance(value, bytes) else None
