"""A model of TensorFlow's as a function of one tensor, and what that tensor must be."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cpr_kit.errors import LackingError, UsageError

Shape = tuple[int | None, ...]
_DEFAULT = "serving_default"


@dataclass(frozen=True, kw_only=True)
class Network:
    """`shape` and `dtype` are None where the model does not say. `what` names it in messages."""

    call: Callable[[Any], Any]
    model: Any
    what: str
    shape: Shape | None = None
    dtype: str | None = None

    def check(self, shape: Shape, dtype: str, remedy: str) -> None:
        """Raises UsageError unless the model takes a batch of that shape, and text where it is text."""
        fits = self.shape is None or (
            len(self.shape) == len(shape)
            and all(None in pair or pair[0] == pair[1] for pair in zip(self.shape, shape, strict=True))
        )
        kind = self.dtype or dtype
        if not fits or (kind != dtype and "string" in (kind, dtype)):
            raise UsageError(
                f"{self.what} takes {kind} {sizes(self.shape)}, and would be given {dtype} {sizes(shape)}; {remedy}"
            )


def tensorflow() -> Any:
    """The library. Raises LackingError where it is not: no extra of the kit brings it."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise LackingError(
            "tensorflow is not installed here, and the model's graph is made with it; run: pip install tensorflow-cpu"
        ) from error
    return tf


def of(model: Any) -> Network:
    """A Keras model, a SavedModel that was loaded, a tf.Module with __call__, or a tf.function.

    Raises UsageError for anything else, and for a model with several inputs.
    """
    if any(each.__module__.partition(".")[0] in ("keras", "tf_keras") for each in type(model).__mro__):
        return _keras(model, f"the Keras model ({type(model).__name__})")
    signatures = getattr(model, "signatures", None)
    if signatures:
        return _loaded(model, signatures, "the loaded SavedModel")
    is_function = hasattr(model, "get_concrete_function")
    what = "the tf.function" if is_function else f"the model ({type(model).__name__})"
    if not callable(model):
        raise UsageError(
            f"{what} cannot be called and has no signature; give its class a __call__ that takes one tensor, "
            "or pass the tf.function itself, model.predict for instance"
        )
    function = model if is_function else getattr(model, "__call__", None)  # noqa: B004
    specs = getattr(function, "input_signature", None)
    if not specs:
        return Network(call=model, model=model, what=what)
    return _specified(model, model, list(specs), what)


def _keras(model: Any, what: str) -> Network:
    def call(tensor: Any) -> Any:
        return model(tensor, training=False) if takes_training else model(tensor)

    takes_training = "training" in inspect.signature(model.call).parameters
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):
        inputs = None  # a Keras model that was never called does not know them
    if not inputs:
        return Network(call=call, model=model, what=what)
    return _specified(model, call, list(inputs), what)


def _loaded(model: Any, signatures: Any, what: str) -> Network:
    known = sorted(signatures)
    if _DEFAULT not in known and len(known) > 1:
        raise UsageError(f'{what} has the signatures {", ".join(known)} and no "{_DEFAULT}"; pass one of them itself')
    function = signatures[_DEFAULT if _DEFAULT in known else known[0]]
    named = function.structured_input_signature[1]
    network = _specified(model, function, list(named.values()), what)
    [name] = named
    return Network(
        call=lambda tensor: function(**{name: tensor}),
        model=model,
        what=what,
        shape=network.shape,
        dtype=network.dtype,
    )


def _specified(model: Any, call: Any, specs: Sequence[Any], what: str) -> Network:
    if len(specs) != 1:
        names = ", ".join(str(spec.name) for spec in specs)
        raise UsageError(f"{what} takes {len(specs)} inputs ({names}); a serving function feeds one: wrap it in a "
                         "tf.Module whose __call__ takes one tensor")  # fmt: skip
    dtype = specs[0].dtype
    shape = specs[0].shape
    try:
        dims: Shape | None = tuple(None if size is None else int(size) for size in shape)
    except ValueError:  # TensorFlow's TensorShape of unknown rank
        dims = None
    return Network(call=call, model=model, what=what, shape=dims, dtype=dtype if isinstance(dtype, str) else dtype.name)


def sizes(shape: Shape | None) -> str:
    """(None, 224, 3) -> "(?, 224, 3)"."""
    return "of any shape" if shape is None else f"({', '.join('?' if size is None else str(size) for size in shape)})"
