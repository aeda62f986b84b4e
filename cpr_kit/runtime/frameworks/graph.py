"""An ONNX file that is open: its inputs, its outputs, the notes that `cpr convert` left in it, and a way to run it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import RequestError, StartError
from cpr_kit.runtime.signature import Signature

if TYPE_CHECKING:
    import numpy as np

NOTES = "cpr_kit"
"""The key of the file's metadata under which the notes lie, as JSON."""

OUTPUTS = {
    "label": ("label", "output_label"),
    "probabilities": ("probabilities", "output_probability"),
}
"""What converters call a classifier's two outputs: skl2onnx's name first, onnxmltools' second."""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}
_ERRORS_ONLY = 3


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a graph. `shape` is that of one row; None stands for any length."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    one_row: bool
    """The graph takes one row a call, because its first dimension is fixed to 1."""

    def cast(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """As the graph's own type. Raises RequestError for a number that does not fit, naming its row."""
        import numpy as np

        if self.dtype == "object":
            return self._text(rows)
        if rows.dtype == self.dtype:
            return rows
        if rows.dtype.kind not in "biuf":
            raise RequestError(f'the model takes numbers for "{self.name}"')
        with np.errstate(over="ignore", invalid="ignore"):
            cast = rows.astype(self.dtype)
        if np.issubdtype(cast.dtype, np.floating):
            # Infinity here and none before: 1e300 has no place among 32 bits.
            wrong = np.isinf(cast)
            wrong = wrong & ~np.isinf(rows) if wrong.any() else wrong
        else:
            wrong = cast != rows
        if wrong.any():
            index = int(np.argwhere(wrong)[0][0])
            raise RequestError(f"instance {index} holds a number that does not fit the model's type, {self.dtype}")
        return cast

    def _text(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if rows.dtype.kind != "U" and not all(isinstance(value, str) for value in rows.flat):
            raise RequestError(f'the model takes text for "{self.name}"')
        return rows.astype(object, copy=False)


class Graph:
    """Raises StartError for a file that onnxruntime cannot run, with its reason."""

    def __init__(self, source: Path | bytes, *, threads: int | None = 1) -> None:
        self.name = source.name if isinstance(source, Path) else "the graph"
        self._session = _session(source, self.name, threads)
        self.inputs = tuple(self._input(node) for node in self._session.get_inputs())
        self.outputs = tuple(node.name for node in self._session.get_outputs())
        self._sequences = {node.name for node in self._session.get_outputs() if not node.type.startswith("tensor(")}
        self.notes: dict[str, Any] = json.loads(self._session.get_modelmeta().custom_metadata_map.get(NOTES, "{}"))

    def find(self, wanted: str | None) -> str:
        """The output of that name, "label" and "probabilities" in any spelling; None: the first. Raises StartError."""
        names = OUTPUTS.get(wanted, (wanted,)) if wanted else self.outputs[:1]
        found: str | None = next((name for name in names if name in self.outputs), None)
        if found is None:
            raise StartError(
                f'{self.name} has no output "{wanted}"',
                f"set output on your predictor to one of {', '.join(self.outputs)}",
            )
        if found in self._sequences:
            raise StartError(
                f'output "{found}" of {self.name} is a list of dictionaries (ZipMap), which is slow and no array',
                'convert the model with `cpr convert`, or with the option {"zipmap": False}',
            )
        return found

    def run(self, output: str, feeds: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """`feeds`: an array for each input, with the rows along axis 0. Raises RequestError as `Input.cast` does."""
        feeds = {item.name: item.cast(feeds[item.name]) for item in self.inputs}
        if not any(item.one_row for item in self.inputs):
            return self._session.run([output], feeds)[0]  # type: ignore[no-any-return]
        import numpy as np

        number = len(next(iter(feeds.values())))
        rows = ({name: array[i : i + 1] for name, array in feeds.items()} for i in range(number))
        return np.concatenate([self._session.run([output], row)[0] for row in rows])

    @property
    def signature(self) -> Signature:
        """Of a graph with one input of (n, features); else it says nothing."""
        first = self.inputs[0]
        if len(self.inputs) != 1 or len(first.shape) != 1:
            return Signature()
        names = self.notes.get("names")
        return Signature(
            features=first.shape[0],
            names=tuple(names) if names else None,
            allow_missing=bool(self.notes.get("allow_missing", False)),
            dtype=first.dtype,
        )

    def _input(self, node: Any) -> Input:
        if node.type not in _DTYPES:
            raise StartError(
                f'input "{node.name}" of {self.name} is {node.type}, which is no plain array',
                "serve it with a Predictor of your own",
            )
        batch, *shape = [size if isinstance(size, int) and size > 0 else None for size in node.shape or [None]]
        if batch not in (None, 1):
            raise StartError(
                f'input "{node.name}" of {self.name} takes exactly {batch} rows',
                "export the model again with a first dimension that is free",
            )
        return Input(name=node.name, dtype=_DTYPES[node.type], shape=tuple(shape), one_row=batch == 1)


def _session(source: Path | bytes, name: str, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    # Threads that spin while they wait would use a core without one request.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = str(source) if isinstance(source, Path) else source
    version = onnxruntime.__version__
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise StartError(
            f"{name} is no ONNX model that onnxruntime {version} can run: {' '.join(str(error).split())}",
            "make the file again, for a scikit-learn model with `cpr convert`",
        ) from error


class GraphEstimator:
    """A converted scikit-learn model with scikit-learn's own names: `predict`, and `predict_proba` of a classifier.

    Answers have the type that scikit-learn's have, where `cpr convert` noted it.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._input = graph.inputs[0].name
        classifies = any(name in graph.outputs for name in OUTPUTS["label"])
        self._answer = graph.find("label" if classifies else None)
        self._dtype = graph.notes.get("dtype", None if classifies else "float64")
        self._flat = not classifies and graph.notes.get("ndim", 1) == 1
        self.signature = graph.signature
        if len(graph.inputs) != 1:
            raise StartError(
                f"{graph.name} has {len(graph.inputs)} inputs: {', '.join(item.name for item in graph.inputs)}",
                "serve it with OnnxPredictor, which takes an object for each instance",
            )

    def predict(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Labels or values, as scikit-learn's predict would give them."""
        answer = self._graph.run(self._answer, {self._input: rows})
        if self._flat and answer.ndim == 2 and answer.shape[1] == 1:  # noqa: PLR2004  a regressor's column
            answer = answer[:, 0]
        return answer if self._dtype is None else answer.astype(self._dtype, copy=False)

    def predict_proba(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """(n, classes) probabilities. Raises StartError for a graph that has none."""
        return self._graph.run(self._graph.find("probabilities"), {self._input: rows})
