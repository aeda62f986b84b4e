"""How long one call takes in this process: no server, no JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_ROUNDS = 7
_ROUND_S = 0.03


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Median microseconds of one `predict` with that many rows, each library on one thread."""

    rows: int
    sklearn_us: float
    onnx_us: float

    @property
    def ratio(self) -> float:
        return self.sklearn_us / self.onnx_us


def measure(
    sklearn: Callable[[Any], Any], onnx: Callable[[Any], Any], rows: np.ndarray[Any, Any], *, count: int
) -> Speed:
    """Both in turns, on the first `count` rows; rows are repeated where there are fewer."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    some = np.resize(rows, (count, rows.shape[1]))
    times: tuple[list[float], list[float]] = ([], [])
    with threadpool_limits(1):
        repeats = [_repeats(call, some) for call in (sklearn, onnx)]
        for _ in range(_ROUNDS):
            for call, number, found in zip((sklearn, onnx), repeats, times, strict=True):
                began = time.perf_counter()
                for _ in range(number):
                    call(some)
                found.append((time.perf_counter() - began) / number)
    ours, theirs = (float(np.median(found)) * 1e6 for found in times)
    return Speed(rows=count, sklearn_us=ours, onnx_us=theirs)


def _repeats(call: Callable[[Any], Any], rows: Any) -> int:
    """How many calls fill a round; the first, which warms up, does not count."""
    call(rows)
    began = time.perf_counter()
    call(rows)
    return max(1, int(_ROUND_S / (time.perf_counter() - began)))
