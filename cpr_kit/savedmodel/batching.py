"""TensorFlow Serving's batching parameters, as its "Batching Configuration" describes them.

The file is what --batching_parameters_file names, and config/batching_parameters_config beside a model for Vertex AI's
optimized TensorFlow runtime.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from cpr_kit.errors import UsageError

FILE = "config/batching_parameters_config"
_LARGEST = (1 << 63) - 1  # the values are google.protobuf.Int64Value


def parameters(
    max_batch_size: int,
    allowed_batch_sizes: Sequence[int] = (),
    *,
    timeout_micros: int = 0,
    threads: int | None = None,
    queue: int | None = None,
) -> str:
    """BatchingParameters in protobuf's text form. Raises UsageError.

    Batches are padded to the next of `allowed_batch_sizes`, so that the model is compiled for these alone. What is
    None is left to the server: `threads` is its number of CPUs there, `queue` how many batches may wait.
    """
    _positive("the largest batch size", max_batch_size)
    if timeout_micros < 0:
        raise UsageError(f"a batch cannot wait {timeout_micros} microseconds; give 0 or more")
    sizes = tuple(allowed_batch_sizes)
    for size in sizes:
        _positive("an allowed batch size", size)
    shown = ", ".join(map(str, sizes))
    if any(size >= after for size, after in itertools.pairwise(sizes)):
        raise UsageError(f"the allowed batch sizes must rise, and they are {shown}")
    if sizes and sizes[-1] != max_batch_size:
        raise UsageError(
            f"the last allowed batch size must be the largest batch size, {max_batch_size}; the sizes are {shown}"
        )
    wrapped = {
        "max_batch_size": max_batch_size,
        "batch_timeout_micros": timeout_micros,
        "max_enqueued_batches": queue,
        "num_batch_threads": threads,
    }
    for name, what in (("max_enqueued_batches", "the queue"), ("num_batch_threads", "the number of threads")):
        if (value := wrapped[name]) is not None:
            _positive(what, value)
    for name, value in wrapped.items():
        if value is not None and value > _LARGEST:
            raise UsageError(f"{name} is {value}, and TensorFlow Serving reads numbers up to {_LARGEST}")
    lines = [f"{name} {{ value: {value} }}" for name, value in wrapped.items() if value is not None]
    return "\n".join([*lines, *(f"allowed_batch_sizes: {size}" for size in sizes)]) + "\n"


def _positive(what: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{what} is {value}; it must be 1 or more")
