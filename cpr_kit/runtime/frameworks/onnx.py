"""ONNX models of any origin: one input of rows, or several inputs by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpr_kit.errors import RequestError
from cpr_kit.runtime import instances
from cpr_kit.runtime.frameworks.array import ArrayPredictor
from cpr_kit.runtime.signature import Signature

if TYPE_CHECKING:
    import numpy as np

    from cpr_kit.runtime.frameworks.graph import Graph, Input


class OnnxPredictor(ArrayPredictor):
    """Serves model.onnx, behind the preprocessor saved beside it.

    A graph with one input takes its rows as `instances`; one with several takes objects, `{"name": value, ...}`.

        class Scores(OnnxPredictor):
            output = "probabilities"
    """

    files = ("model.onnx",)
    # A row costs the same from 16 on; more of them would only make the others wait.
    max_batch_rows = 256
    wants_array = True
    # A session with one thread runs in its caller; onnxruntime has no thread that a fork could lose.
    fork_safe = True
    inline = True

    output: ClassVar[str | None] = None
    """The output that answers: "label" or "probabilities" of a classifier, or a name; None: the graph's first."""

    _graph: Graph
    _answer: str

    def _open(self, path: Path, options: dict[str, Any]) -> Signature:  # noqa: ARG002
        from cpr_kit.runtime.frameworks.graph import Graph

        self._graph = Graph(path, threads=self.threads)
        self._answer = self._graph.find(self.output)
        return self._graph.signature

    def preprocess(self, prediction_input: Any) -> Any:
        """(n, features) array; an (n, ...) array for another single input; a dictionary of arrays for several."""
        inputs = self._graph.inputs
        if len(inputs) > 1:
            return _columns(instances.of(prediction_input), inputs)
        if len(inputs[0].shape) != 1 and self._preprocessor is None:
            return _stacked(_list(instances.of(prediction_input)), inputs[0])
        return super().preprocess(prediction_input)

    def predict(self, instances: np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]]) -> Any:
        feeds = instances if isinstance(instances, dict) else {self._graph.inputs[0].name: instances}
        return self._graph.run(self._answer, feeds)


def _columns(values: Any, inputs: tuple[Input, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """An array for each input. Raises RequestError naming the instance, and the name that is missing or unknown."""
    names = [item.name for item in inputs]
    for index, row in enumerate(_list(values)):
        if not isinstance(row, Mapping):
            raise RequestError(f"instance {index} must be an object with {_told(names)}")
        if missing := [name for name in names if name not in row]:
            raise RequestError(f"instance {index} has no {_told(missing)}")
        if len(row) > len(names):
            raise RequestError(f"instance {index} has more names than the model's {_told(names)}")
    return {item.name: _stacked([row[item.name] for row in values], item) for item in inputs}


def _stacked(values: Any, item: Input) -> np.ndarray[Any, Any]:
    """(n, *shape) array of one input. Raises RequestError naming the instance that has another shape or kind."""
    import numpy as np

    if isinstance(values, np.ndarray):
        return _fitting(values, item, 0)[0]
    rows = []
    for index, value in enumerate(values):
        try:
            row = np.asarray(value)
        except ValueError as error:
            raise RequestError(f'"{item.name}" of instance {index} has lists of different lengths') from error
        rows.append(_fitting(row[np.newaxis], item, index)[0])
    return np.concatenate(rows)


def _fitting(rows: np.ndarray[Any, Any], item: Input, index: int) -> tuple[np.ndarray[Any, Any]]:
    import numpy as np

    wants = "text" if item.dtype == "object" else "numbers"
    kinds = "UO" if wants == "text" else "biuf"
    if rows.dtype.kind not in kinds or (rows.dtype.kind == "O" and not all(isinstance(x, str) for x in rows.flat)):
        raise RequestError(f'"{item.name}" of instance {index} must hold {wants}')
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise RequestError(f'"{item.name}" of instance {index} holds a number that is not finite')
    if rows.ndim == 1 and item.shape in ((1,), (None,)):
        rows = rows[:, np.newaxis]  # a plain value where the graph has a column of one
    fits = len(rows.shape) - 1 == len(item.shape)
    if not fits or any(want not in (None, has) for want, has in zip(item.shape, rows.shape[1:], strict=True)):
        shape = " x ".join("any" if size is None else str(size) for size in item.shape) or "one value"
        raise RequestError(f'"{item.name}" of instance {index} must be {shape}')
    return (rows,)


def _list(values: Any) -> Any:
    import numpy as np

    if isinstance(values, np.ndarray) and values.ndim and len(values):
        return values
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)) or not values:
        raise RequestError('"instances" must be a list with at least one instance')
    return values


def _told(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
