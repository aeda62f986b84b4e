"""How far two answers to the same rows are apart: labels, probabilities, values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Answers:
    """`labels` of a classifier or of clusters, else `values`; `probabilities` where the model has them."""

    labels: np.ndarray[Any, Any] | None = None
    values: np.ndarray[Any, Any] | None = None
    probabilities: np.ndarray[Any, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A row on which the two disagree: its number, counted from 0, and what each said of it."""

    row: int
    output: str
    sklearn: Any
    onnx: Any
    difference: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Differences of probabilities are absolute; those of values relative to the value, or the values' spread."""

    rows: int
    flips: int
    """Rows with another label."""
    beyond: int
    """Rows whose probabilities or values differ by more than the tolerance."""
    max_difference: float
    mean_difference: float
    worst: tuple[Difference, ...]

    @property
    def whole(self) -> bool:
        return not self.flips and not self.beyond


def compare(sklearn: Answers, onnx: Answers, *, tolerance: float) -> Agreement:
    """Both answer the same rows in the same order. Raises ValueError when their shapes differ."""
    import numpy as np

    count = len(next(x for x in (sklearn.labels, sklearn.values) if x is not None))
    flipped = np.zeros(count, dtype=bool)
    if sklearn.labels is not None:
        flipped = _per_row(_same_shape(sklearn.labels, onnx.labels) != onnx.labels).any(axis=1)
    name, expected, got = "probabilities", sklearn.probabilities, onnx.probabilities
    if expected is None:
        name, expected, got = "values", sklearn.values, onnx.values
    apart = np.zeros(count)
    if expected is not None:
        apart = _apart(_same_shape(expected, got), got, relative=name == "values")
    order = [int(i) for i in np.lexsort((-apart, ~flipped))[:_SHOWN] if flipped[i] or apart[i] > 0]
    worst = [
        _difference(i, "label", sklearn.labels, onnx.labels, apart)
        if flipped[i]
        else _difference(i, name, expected, got, apart)
        for i in order
    ]
    return Agreement(
        rows=count,
        flips=int(flipped.sum()),
        beyond=int((apart > tolerance).sum()),
        max_difference=float(apart.max()),
        mean_difference=float(apart.mean()),
        worst=tuple(worst),
    )


def _difference(row: int, output: str, sklearn: Any, onnx: Any, apart: np.ndarray[Any, Any]) -> Difference:
    """In plain values, as JSON takes them."""
    ours, theirs = (answer[row : row + 1].tolist()[0] for answer in (sklearn, onnx))
    return Difference(row=row, output=output, sklearn=ours, onnx=theirs, difference=float(apart[row]))


def _apart(expected: np.ndarray[Any, Any], got: Any, *, relative: bool) -> np.ndarray[Any, Any]:
    """The largest difference of each row; infinite where one of the two is no number."""
    import numpy as np

    expected = expected.astype(float)
    apart = np.abs(expected - got)
    if relative:
        scale = np.maximum(np.abs(expected), expected.std())
        apart = apart / np.where(scale > 0, scale, 1.0)
    apart[np.isnan(expected) & np.isnan(got.astype(float))] = 0.0
    largest: np.ndarray[Any, Any] = _per_row(apart).max(axis=1)
    largest[np.isnan(largest)] = np.inf
    return largest


def _per_row(values: Any) -> Any:
    return values.reshape(len(values), -1)


def _same_shape(expected: np.ndarray[Any, Any], got: Any) -> np.ndarray[Any, Any]:
    if got is None or expected.shape != got.shape:
        shape = None if got is None else got.shape
        raise ValueError(f"scikit-learn answers with shape {expected.shape}, the graph with {shape}")
    return expected
