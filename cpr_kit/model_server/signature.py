"""A SavedModel's signature in plain values: what goes in, what comes out, of which type and shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cpr_kit.model_server.status import ServingError, invalid

DEFAULT = "serving_default"
Arrays = Mapping[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """`dtype` is numpy's, None for text; `shape` has None where any size will do, and is None for any rank."""

    name: str
    dtype: np.dtype[Any] | None
    dtype_name: str
    shape: tuple[int | None, ...] | None

    def shown(self) -> str:
        dims = "any shape" if self.shape is None else _dims(self.shape)
        return f"{self.name} ({self.dtype_name} {dims})"

    def check(self, array: np.ndarray[Any, Any]) -> None:
        """Raises ServingError when the array has another shape."""
        if self.shape is None:
            return
        fits = len(self.shape) == array.ndim and all(
            wanted in (None, size) for wanted, size in zip(self.shape, array.shape, strict=False)
        )
        if not fits:
            raise invalid(f"input {self.name} has the shape {_dims(array.shape)}, expecting {_dims(self.shape)}")


@dataclass(frozen=True, kw_only=True)
class Signature:
    """`message` is the SignatureDef that it was read from; `defaults` are the values of inputs that may be left out."""

    name: str
    method: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    message: Any
    defaults: Arrays = field(default_factory=dict)

    @property
    def required(self) -> list[str]:
        return [name for name in self.inputs if name not in self.defaults]

    def expecting(self) -> str:
        takes = (
            self.inputs[name].shown() + (", which may be left out" if name in self.defaults else "")
            for name in sorted(self.inputs)
        )
        return f"signature {self.name} takes " + ", ".join(takes)

    def check(self, inputs: Arrays) -> None:
        """Raises ServingError, its words TensorFlow's own, unless the signature's inputs are there and no others."""
        extra = ",".join(sorted(inputs.keys() - self.inputs.keys()))
        missing = ",".join(sorted(set(self.required) - inputs.keys()))
        if extra or missing:
            raise invalid(
                f"input size does not match signature: {len(inputs)}!={len(self.inputs)}. Sent extra: {{{extra}}}. "
                f"Missing but required: {{{missing}}}. {self.expecting()}"
            )
        for name, array in sorted(inputs.items()):
            self.inputs[name].check(array)


def find(signatures: Mapping[str, Signature], name: str, *, code: str = "INVALID_ARGUMENT") -> Signature:
    """The signature, the default one without a name. Raises ServingError that lists those there are."""
    name = name or DEFAULT
    if name not in signatures:
        known = ", ".join(sorted(signatures)) or "none"
        raise ServingError(code, f'Serving signature name: "{name}" not found in signature def; it has: {known}')
    return signatures[name]


def _dims(shape: tuple[int | None, ...]) -> str:
    return f"[{','.join('-1' if size is None else str(size) for size in shape)}]"
