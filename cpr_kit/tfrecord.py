"""The framing of TFRecord files, as TensorFlow's "TFRecord and tf.train.Example" describes it.

Written here so that nothing of the kit needs TensorFlow (600 MB for forty lines).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import google_crc32c

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_MASK = 0xA282EAD8
_CHUNK = 1 << 20


class BrokenFile(ValueError):
    """The rest of the file cannot be read."""


def masked_crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def write(file: BinaryIO, data: Iterable[bytes]) -> None:
    """Each record: its length, the length's checksum, its data, the data's checksum."""
    for record in data:
        head = _LENGTH.pack(len(record))
        file.write(head + _CRC.pack(masked_crc(head)) + record + _CRC.pack(masked_crc(record)))


def records(file: BinaryIO) -> Iterator[bytes]:
    """The data of each record, checked. Raises BrokenFile."""
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
