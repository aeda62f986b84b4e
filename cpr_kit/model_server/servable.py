"""One version of a model, loaded by TensorFlow: its signatures, and how they are asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpr_kit.errors import StartError
from cpr_kit.model_server import batching, running, signature, warmup
from cpr_kit.model_server.batching import Batcher, Run
from cpr_kit.model_server.flags import Flags
from cpr_kit.model_server.running import Compilations
from cpr_kit.model_server.signature import Arrays, Signature, Tensor
from cpr_kit.model_server.status import ServingError

logger = logging.getLogger(__name__)

SAVED_MODEL = "saved_model.pb"
_TAG = "serve"
_REMEDY = "copy the whole folder that tf.saved_model.save made"
_METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")


class Servable:
    """Ready to be asked once it is made; its warm-up requests are answered by then."""

    def __init__(
        self, version: int, signatures: Mapping[str, Signature], runs: Mapping[str, Run], loaded: object = None
    ) -> None:
        self.version = version
        self.signatures = signatures
        self._runs = runs
        self._loaded = loaded  # holds the variables, to which its functions refer weakly

    def signature(self, name: str, *, code: str = "INVALID_ARGUMENT") -> Signature:
        return signature.find(self.signatures, name, code=code)

    def predict(self, asked: Signature, inputs: Arrays, outputs: Sequence[str] = ()) -> dict[str, np.ndarray[Any, Any]]:
        """All outputs, or those named. Raises ServingError."""
        unknown = sorted(set(outputs) - asked.outputs.keys())
        if unknown:
            known = ", ".join(sorted(asked.outputs))
            raise ServingError(
                "INVALID_ARGUMENT", f"output tensor alias not found in signature: {unknown[0]}; it has: {known}"
            )
        found = self._runs[asked.name](inputs)
        return {name: found[name] for name in outputs} if outputs else found

    def close(self) -> None:
        for run in self._runs.values():
            if isinstance(run, Batcher):
                run.close()


def load(folder: Path, version: int, flags: Flags, parameters: batching.Parameters | None) -> Servable:
    """Raises StartError for a folder that holds no SavedModel that serves, and for warm-up requests that fail."""
    import tensorflow as tf

    signatures = _signatures(folder)
    try:
        loaded = tf.saved_model.load(str(folder), tags=[_TAG])
    except Exception as error:
        raise StartError(f"{folder} cannot be loaded: {error}", _REMEDY) from error
    functions = {name: function for name, function in loaded.signatures.items() if name in signatures}
    if flags.compresses:
        logger.info("rounded %d weights to bfloat16", running.compress(functions.values()))
    compilations = Compilations()
    runs: dict[str, Run] = {}
    for name, function in functions.items():
        asked = signatures[name]
        run = running.compiled(function, asked, compilations) if flags.compiles else running.plain(function, asked)
        runs[name] = run if parameters is None else Batcher(run, parameters)
    servable = Servable(version, {name: signatures[name] for name in runs}, runs, loaded)
    if flags.enable_model_warmup:
        replayed = warmup.replay(folder, servable)
        logger.info("warm-up requests: %d; compilations: %d", replayed, compilations.count)
    return servable


def _signatures(folder: Path) -> dict[str, Signature]:
    """The signatures of the graph for serving, without what TensorFlow keeps for itself."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString((folder / SAVED_MODEL).read_bytes())
    except (OSError, DecodeError) as error:
        raise StartError(f"{folder / SAVED_MODEL} cannot be read: {error}", _REMEDY) from error
    graphs = [graph for graph in message.meta_graphs if _TAG in graph.meta_info_def.tags]
    if not graphs:
        tags = ", ".join(tag for graph in message.meta_graphs for tag in graph.meta_info_def.tags) or "none"
        raise StartError(f'{folder} has no graph tagged "{_TAG}", only: {tags}', "save it with tf.saved_model.save")
    found = graphs[0].signature_def
    return {name: _signature(name, found[name]) for name in sorted(found) if found[name].method_name in _METHODS}


def _signature(name: str, message: Any) -> Signature:
    """Sorted: a protobuf map has another order each time, and errors name the first fault."""
    import tensorflow as tf

    return Signature(
        name=name,
        method=message.method_name,
        inputs={each: _tensor(each, info) for each, info in sorted(message.inputs.items())},
        outputs={each: _tensor(each, info) for each, info in sorted(message.outputs.items())},
        message=message,
        defaults={each: tf.make_ndarray(value) for each, value in message.defaults.items()},
    )


def _tensor(name: str, info: Any) -> Tensor:
    import tensorflow as tf

    dtype = tf.as_dtype(info.dtype)
    dims = info.tensor_shape
    shape = None if dims.unknown_rank else tuple(None if dim.size < 0 else int(dim.size) for dim in dims.dim)
    numpy_dtype = None if dtype == tf.string else np.dtype(dtype.as_numpy_dtype)
    return Tensor(name=name, dtype=numpy_dtype, dtype_name=dtype.name, shape=shape)
