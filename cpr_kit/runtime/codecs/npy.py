"""numpy's .npy: one array in, one array out. The header is read here and the numbers are taken as they lie, so
nothing is unpickled, evaluated or allocated that the body does not hold.
"""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import RequestError
from cpr_kit.runtime.codecs.codec import Body, Wants, from_array, predictions_of
from cpr_kit.runtime.codecs.media import Media

if TYPE_CHECKING:
    import numpy as np

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 1024  # eight dimensions take 250
_MAX_DIMENSIONS = 8
_HEADER = re.compile(
    rb"""\s*\{(?=.*['"]descr['"]\s*:\s*['"](?P<dtype>[^'"]*)['"])"""
    rb"""(?=.*['"]fortran_order['"]\s*:\s*(?P<fortran>True|False))"""
    rb"""(?=.*['"]shape['"]\s*:\s*\((?P<shape>[\d\s,]*)\))[^{}]*\}\s*"""
)
_DTYPE = re.compile(rb"[<>|=](?:b1|[iu][1248]|f[248])")


def decode(body: bytes | bytearray, _: Media, wants: Wants) -> Body:
    """The array as "instances". Raises RequestError for other than numbers, and for a body of another length."""
    dtype, fortran, shape, start = _header(body)
    if not shape:
        raise RequestError("the array has no dimension; its first one must count the instances")
    import numpy as np

    kind = np.dtype(dtype)
    wanted = math.prod(shape) * kind.itemsize
    if wanted != len(body) - start:
        raise RequestError(f"the array's header asks for {wanted} bytes; {len(body) - start} are there")
    if kind.kind == "b":
        array = np.frombuffer(body, np.uint8, offset=start) != 0  # any other byte is no bool to numpy
    else:
        array = np.frombuffer(body, kind, offset=start)
    return from_array(array.reshape(shape, order="F" if fortran else "C"), wants)


def encode(value: Any) -> bytes:
    """The predictions as one array of numbers. Raises TypeError when they are none."""
    import numpy as np

    array = numbers(predictions_of(value))
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def numbers(value: Any) -> np.ndarray[Any, Any]:
    """Raises TypeError for what is no rectangular array of numbers."""
    import numpy as np

    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError("predictions of different shapes are no array") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"predictions of type {array.dtype} are no array of numbers")
    return array


def _header(body: bytes | bytearray) -> tuple[str, bool, tuple[int, ...], int]:
    """Type, order, shape, and where the numbers begin."""
    version = body[6:8]
    size = 2 if version == b"\x01\x00" else 4
    start = 8 + size
    if not body.startswith(_MAGIC) or version not in (b"\x01\x00", b"\x02\x00", b"\x03\x00") or len(body) < start:
        raise RequestError("the body is no .npy file of version 1, 2 or 3")
    length = int.from_bytes(body[8:start], "little")
    if length > _MAX_HEADER or start + length > len(body):
        raise RequestError(f"the .npy header is cut off, or longer than {_MAX_HEADER} bytes")
    found = _HEADER.fullmatch(body, start, start + length)
    if found is None or not _DTYPE.fullmatch(found["dtype"]):
        raise RequestError(
            "the .npy header does not describe a plain array of booleans, integers or floats; "
            "objects, structures and text are not read"
        )
    sizes = [size for size in found["shape"].split(b",") if size.strip()]
    if len(sizes) > _MAX_DIMENSIONS:
        raise RequestError(f"the array has {len(sizes)} dimensions; at most {_MAX_DIMENSIONS} are read")
    if any(len(size) > 18 or not size.strip().isdigit() for size in sizes):  # noqa: PLR2004
        raise RequestError("the array's shape is no list of sizes")
    return found["dtype"].decode(), found["fortran"] == b"True", tuple(map(int, sizes)), start + length
