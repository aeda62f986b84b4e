"""What the records of a TFRecord file hold: bytes, and tf.train.Example where instanceConfig names fields.

The messages are those of TensorFlow's example.proto and feature.proto, without TensorFlow.
"""

from __future__ import annotations

import base64
import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from cpr_kit.emulator.batch.rows import BadRow


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


class Example:
    """One tf.train.Example, by the names of its features."""

    def __init__(self, record: bytes) -> None:
        self._message = _example_class()()
        try:
            self._message.ParseFromString(record)
        except DecodeError:
            raise BadRow("The record is no tf.train.Example, which the job's instanceConfig needs.") from None
        self.fields = {name: _value(feature) for name, feature in self._message.features.feature.items()}

    def without(self, names: list[str]) -> bytes:
        """The same Example less these features; bytes do not depend on the order that the map had."""
        for name in names:
            del self._message.features.feature[name]
        data: bytes = self._message.SerializeToString(deterministic=True)
        return data


def _value(feature: Any) -> Any:
    """A single value as itself, several as a list."""
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    if kind == "bytes_list":
        values = [_text(value) for value in values]
    return values[0] if len(values) == 1 else values


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64(value)


@functools.cache
def _example_class() -> Any:
    """In a pool of its own: the program under the emulator may import TensorFlow, which brings the same names."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    types = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("BytesList", types.TYPE_BYTES),
        ("FloatList", types.TYPE_FLOAT),
        ("Int64List", types.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=types.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), 1):
        of = ".tensorflow." + name.title().replace("_", "")
        feature.field.add(name=name, number=number, type=types.TYPE_MESSAGE, type_name=of, label=1, oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=types.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=types.TYPE_MESSAGE, type_name=".tensorflow.Feature", label=1)
    of = ".tensorflow.Features.FeatureEntry"
    features.field.add(name="feature", number=1, type=types.TYPE_MESSAGE, type_name=of, label=types.LABEL_REPEATED)
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, type=types.TYPE_MESSAGE, type_name=".tensorflow.Features", label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
