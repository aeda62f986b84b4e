"""TFRecord files: their framing, and tf.train.Example where instanceConfig names fields.

Written here so that the emulator needs no TensorFlow (600 MB for forty lines).
The framing is that of TensorFlow's "TFRecord and tf.train.Example", the messages of example.proto and feature.proto.
"""

from __future__ import annotations

import base64
import functools
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from cpr_kit.emulator.batch.rows import BadRow

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_MASK = 0xA282EAD8
_CHUNK = 1 << 20


class BrokenFile(ValueError):
    """The rest of the file cannot be read."""


def masked_crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def records(file: BinaryIO) -> Iterator[bytes]:
    """Each record: its length, the length's checksum, its data, the data's checksum."""
    number = 1
    while head := _exactly(file, _LENGTH.size, number, may_end=True):
        _check(head, _exactly(file, _CRC.size, number), f"the length of record {number}")
        data = _exactly(file, _LENGTH.unpack(head)[0], number)
        _check(data, _exactly(file, _CRC.size, number), f"record {number}")
        yield data
        number += 1


def _exactly(file: BinaryIO, size: int, number: int, *, may_end: bool = False) -> bytes:
    parts: list[bytes] = []
    lacking = size
    while lacking and (part := file.read(min(lacking, _CHUNK))):
        parts.append(part)
        lacking -= len(part)
    if lacking and (parts or not may_end):
        raise BrokenFile(f"The TFRecord file ends within record {number}.")
    return b"".join(parts)


def _check(data: bytes, crc: bytes, what: str) -> None:
    if masked_crc(data) != _CRC.unpack(crc)[0]:
        raise BrokenFile(f"The TFRecord file is broken: the checksum of {what} does not match.")


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
