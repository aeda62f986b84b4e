"""What a SavedModel declares: its signatures, their inputs and outputs, in plain values.

Names and numbers of types are those of tensorflow/core/framework/types.proto.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cpr_kit.errors import UsageError

DEFAULT = "serving_default"
"""The signature that TensorFlow Serving takes when a request names none."""

DTYPES: Mapping[int, str] = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
}
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS: Mapping[str, tuple[int, int]] = {
    "int8": (-(1 << 7), (1 << 7) - 1),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint8": (0, (1 << 8) - 1),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}
Shape = tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output: `None` in its shape is any size, `None` for its shape any rank.

    `optional` says that the signature has a default for it; `dense` that it is a plain tensor, neither sparse nor
    ragged.
    """

    name: str
    dtype: str
    shape: Shape | None
    optional: bool = False
    dense: bool = True

    @property
    def is_json(self) -> bool:
        """Whether JSON can write its values."""
        return self.dense and (self.dtype in FLOATS or self.dtype in INTEGERS or self.dtype in {"bool", "string"})

    @property
    def is_binary(self) -> bool:
        """Whether a string holds bytes, as its name says: `image_bytes` by TensorFlow Serving's rule for its REST API,
        `bytes_inputs` as Google's tutorials have it. Any string may be written {"b64": ...}.
        """
        return self.dtype == "string" and "bytes" in self.name.split("_")


@dataclass(frozen=True, kw_only=True)
class Signature:
    name: str
    method: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def required(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.inputs.items() if not tensor.optional}

    @property
    def takes_examples(self) -> bool:
        """Whether its input is serialised tf.train.Example: the classify and regress methods define it so, and an
        estimator's parsing receiver names it `examples`.
        """
        return self.method.rpartition("/")[2] in {"classify", "regress"} or list(self.inputs) == ["examples"]


def find(signatures: Mapping[str, Signature], name: str) -> Signature:
    """Raises UsageError that lists the known ones."""
    if name in signatures:
        return signatures[name]
    raise UsageError(unknown_signature(signatures, name))


def unknown_signature(signatures: Mapping[str, Signature], name: str) -> str:
    has = f"it has {listed(signatures)}" if signatures else "it has none"
    return f'the model has no signature "{shown(name)}"; {has}{meant(name, signatures)}'


def meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f' (is "{shown(close[0])}" meant?)' if close else ""


def listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{shown(name)}"' for name in names)


def shown(text: str) -> str:
    """A name from a file or a request as it may stand on a terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def size_of(shape: Iterable[int | None] | None) -> str:
    """`any x 3`; a tensor of rank 0 is one value."""
    if shape is None:
        return "any shape"
    return " x ".join("any" if size is None else str(size) for size in shape) or "one value"
