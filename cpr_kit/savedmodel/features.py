"""The features of a tf.train.Example that a model parses, which its signature does not tell.

They stand in the graph, as the inputs and attributes of the operations ParseExample and ParseExampleV2
(tensorflow/core/ops/parsing_ops.cc). Features that may be absent (sparse, ragged) are left out.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cpr_kit.errors import ConfigError
from cpr_kit.savedmodel import messages, reader
from cpr_kit.savedmodel.example import JPEG
from cpr_kit.savedmodel.signatures import DTYPES, Tensor

_SERIALISED = 2  # the operations' inputs `serialized` and `names`, which come first
_MOST_KEYS = 10_000
_MOST_VALUES = 1_000_000


def read(model: reader.SavedModel) -> dict[str, Tensor]:
    """The features by their names; empty where the graph parses none, or several signatures parse unlike ones."""
    from google.protobuf.message import DecodeError

    graph = messages.new("GraphDef")
    try:
        graph.ParseFromString(reader.graph_def(model))
    except DecodeError:
        raise ConfigError(
            f"{model.path / reader.FILE} has a graph that cannot be read; export the model again"
        ) from None
    found: list[dict[str, Tensor]] = []
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for features in _parsed(nodes):
            if features and features not in found:
                found.append(features)
    return found[0] if len(found) == 1 else {}


def example(features: Mapping[str, Tensor]) -> bytes:
    """A serialised tf.train.Example of these features: zeros, texts, and pictures for bytes."""
    message = messages.new("Example")
    for name, tensor in features.items():
        feature = message.features.feature[name]
        size = math.prod(each or 1 for each in tensor.shape or ())
        if tensor.dtype == "string":
            feature.bytes_list.value.extend([base64.b64decode(JPEG) if tensor.is_binary else b"text"] * size)
        elif tensor.dtype == "int64":
            feature.int64_list.value.extend([0] * size)
        else:
            feature.float_list.value.extend([0.0] * size)
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _parsed(nodes: Sequence[Any]) -> Iterator[dict[str, Tensor]]:
    parsing = [node for node in nodes if node.op in {"ParseExample", "ParseExampleV2"}]
    if not parsing:
        return
    constants = {node.name: node.attr["value"].tensor for node in nodes if node.op == "Const"}
    for node in parsing:
        names = list(_keys(node, constants))
        types = node.attr["Tdense"].list.type
        shapes = [[dim.size for dim in shape.dim] for shape in node.attr["dense_shapes"].list.shape]
        if len(names) == len(types) == len(shapes):
            tensors = map(_tensor, names, types, shapes)
            features = {tensor.name: tensor for tensor in tensors}
            if sum(math.prod(each or 1 for each in tensor.shape or ()) for tensor in features.values()) <= _MOST_VALUES:
                yield dict(sorted(features.items()))


def _tensor(name: str, number: int, sizes: Sequence[int]) -> Tensor:
    shape = tuple(size if size >= 0 else None for size in sizes)
    return Tensor(name=name, dtype=DTYPES.get(number, f"type {number}"), shape=shape)


def _keys(node: Any, constants: Mapping[str, Any]) -> Iterator[str]:
    """The names of the dense features: one tensor in the second version, an input each in the first."""
    if node.op == "ParseExampleV2":
        inputs = node.input[_SERIALISED + 1 : _SERIALISED + 2]
    else:
        first = _SERIALISED + max(node.attr["Nsparse"].i, 0)
        inputs = node.input[first : first + max(node.attr["Ndense"].i, 0)]
    for name in inputs:
        tensor = constants.get(name.partition(":")[0])
        if tensor is None or not tensor.string_val:
            continue
        # Equal values at the end are written once.
        count = math.prod(dim.size for dim in tensor.tensor_shape.dim)
        values = [value.decode(errors="replace") for value in tensor.string_val]
        yield from values + values[-1:] * (min(count, _MOST_KEYS) - len(values))
