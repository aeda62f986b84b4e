"""The few messages of TensorFlow and TensorFlow Serving that are read and written here, without either library.

Names and field numbers are those of their public .proto files: saved_model, meta_graph, tensor, tensor_shape,
graph, function, node_def, attr_value and example of tensorflow/core, prediction_log, predict and model of
tensorflow_serving/apis. What is not listed stays unread.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from cpr_kit.errors import MissingExtra

_Fields = Mapping[str, tuple[int, str]]
# `name: (number, type)`: * is repeated, *key, is a map by strings, an upper-case type another message.
_TENSORFLOW: Mapping[str, _Fields] = {
    "SavedModel": {"saved_model_schema_version": (1, "int64"), "meta_graphs": (2, "*MetaGraphDef")},
    "MetaGraphDef": {
        "meta_info_def": (1, "MetaInfoDef"),
        "graph_def": (2, "bytes"),  # a GraphDef, large, and seldom wanted
        "signature_def": (5, "map SignatureDef"),
        "asset_file_def": (6, "*AssetFileDef"),
    },
    "MetaInfoDef": {"tags": (4, "*string"), "tensorflow_version": (5, "string")},
    "AssetFileDef": {"filename": (2, "string")},
    "SignatureDef": {
        "inputs": (1, "map TensorInfo"),
        "outputs": (2, "map TensorInfo"),
        "method_name": (3, "string"),
        "defaults": (4, "map TensorProto"),
    },
    "TensorInfo": {
        "name": (1, "string"),
        "dtype": (2, "int32"),  # an enum there; newer releases add to it, and a number is kept as it comes
        "tensor_shape": (3, "TensorShapeProto"),
        "coo_sparse": (4, "bytes"),  # only whether they are there matters
        "composite_tensor": (5, "bytes"),
    },
    "TensorShapeProto": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Dim": {"size": (1, "int64")},
    "TensorProto": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShapeProto"),
        "tensor_content": (4, "bytes"),
        "string_val": (8, "*bytes"),
    },
    "GraphDef": {"node": (1, "*NodeDef"), "library": (2, "FunctionDefLibrary")},
    "FunctionDefLibrary": {"function": (1, "*FunctionDef")},
    "FunctionDef": {"node_def": (3, "*NodeDef")},
    "NodeDef": {"name": (1, "string"), "op": (2, "string"), "input": (3, "*string"), "attr": (5, "map AttrValue")},
    "AttrValue": {"list": (1, "ListValue"), "i": (3, "int64"), "tensor": (8, "TensorProto")},
    "ListValue": {"type": (6, "*int32"), "shape": (7, "*TensorShapeProto")},
    "Example": {"features": (1, "Features")},
    "Features": {"feature": (1, "map Feature")},
    "Feature": {"bytes_list": (1, "BytesList"), "float_list": (2, "FloatList"), "int64_list": (3, "Int64List")},
    "BytesList": {"value": (1, "*bytes")},
    "FloatList": {"value": (1, "*float")},
    "Int64List": {"value": (1, "*int64")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "map TensorProto")},
    "ModelSpec": {"name": (1, "string"), "signature_name": (3, "string")},
}
_PACKAGE = "cpr_kit.savedmodel"


def new(name: str) -> Any:
    """An empty message. Raises MissingExtra where protobuf is not installed."""
    return _classes()[name]()


@functools.cache
def _classes() -> Mapping[str, Any]:
    """In a pool and a package of their own: the program around may import TensorFlow, which brings the same names."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise MissingExtra("protobuf", "vertex") from error
    file = descriptor_pb2.FileDescriptorProto(name="cpr_kit/savedmodel.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _TENSORFLOW.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"{_PACKAGE}.{name}")) for name in _TENSORFLOW}


def _add(message: Any, field: str, number: int, kind: str) -> None:
    if kind.startswith("map "):
        entry = message.nested_type.add(name=field.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        _add(entry, "key", 1, "string")
        _add(entry, "value", 2, kind.removeprefix("map "))
        message.field.add(name=field, number=number, type=11, label=3, type_name=f"{message.name}.{entry.name}")
        return
    label, kind = (3, kind[1:]) if kind.startswith("*") else (1, kind)
    scalar = {"float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12}
    if kind in scalar:
        message.field.add(name=field, number=number, type=scalar[kind], label=label)
    else:
        message.field.add(name=field, number=number, type=11, label=label, type_name=kind)
