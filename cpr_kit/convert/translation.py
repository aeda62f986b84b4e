"""A fitted scikit-learn model into the bytes of an ONNX graph, through skl2onnx."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

from cpr_kit.errors import CprError, MissingExtra
from cpr_kit.runtime.frameworks.graph import NOTES

_TREES = (
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "ExtraTreeClassifier",
    "ExtraTreeRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "GradientBoostingClassifier",
    "GradientBoostingRegressor",
    "HistGradientBoostingClassifier",
    "HistGradientBoostingRegressor",
    "RandomForestClassifier",
    "RandomForestRegressor",
)

DTYPES = ("float64", "float32")


class Untranslatable(CprError):
    """skl2onnx has no way to write this model; the message has its reason."""


def translate(model: Any, features: int, *, dtype: str, notes: dict[str, Any]) -> bytes:
    """The graph with one input "X" of (n, features), all of it in `dtype` but for what ONNX has in 32 bits alone.

    Raises Untranslatable, and MissingExtra without skl2onnx.
    """
    try:
        from onnx.helper import set_model_props
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "skl2onnx", "convert") from error
    kind = {"float64": DoubleTensorType, "float32": FloatTensorType}[dtype]
    # A ZipMap would answer probabilities as one dictionary a row.
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = convert_sklearn(
                model,
                initial_types=[("X", kind([None, features]))],
                options=options,
                custom_conversion_functions=_mended(),
            )
    except Exception as error:
        reason = " ".join(str(error).split(". ")[0].split())
        raise Untranslatable(f"skl2onnx cannot convert this {type(model).__name__}: {reason}") from error
    set_model_props(graph, {NOTES: json.dumps(notes)})
    return bytes(graph.SerializeToString())


def _mended() -> dict[type, Callable[..., None]]:
    """skl2onnx's own converters of trees, in 32 bits."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import get_converter
    from sklearn import ensemble, tree

    kinds = [getattr(tree, name, None) or getattr(ensemble, name) for name in _TREES]
    return {kind: _in_32_bits(get_converter(sklearn_operator_name_map[kind])) for kind in kinds}


def _in_32_bits(converter: Callable[..., None]) -> Callable[..., None]:
    """The converter behind casts, so that inside a graph of 64 bits the trees stay at 32.

    scikit-learn's own trees look at rows in 32 bits too, all but HistGradientBoosting, whose graph onnxruntime refuses
    in 64. What stands before them, a scaler above all, keeps its 64 bits: then no row falls on the other side of a
    threshold because it was scaled in 32.
    """

    def convert(scope: Any, operator: Any, container: Any) -> None:
        from onnx import TensorProto
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

        container = _WholeNumbers(container)
        if not isinstance(operator.inputs[0].type, DoubleTensorType):
            converter(scope, operator, container)
            return
        rows = scope.declare_local_variable("single", FloatTensorType(operator.inputs[0].type.shape))
        container.add_node("Cast", operator.inputs[0].full_name, rows.full_name, to=TensorProto.FLOAT)
        outputs = []
        for output in operator.outputs:
            if isinstance(output.type, DoubleTensorType):
                answer = scope.declare_local_variable("single", FloatTensorType(output.type.shape))
                container.add_node("Cast", answer.full_name, output.full_name, to=TensorProto.DOUBLE)
                outputs.append(answer)
            else:
                outputs.append(output)
        converter(scope, _Operator(operator, [rows], outputs), container)

    return convert


class _Operator:
    """An operator of skl2onnx with other inputs and outputs."""

    def __init__(self, operator: Any, inputs: list[Any], outputs: list[Any]) -> None:
        self._operator = operator
        self.inputs = inputs
        self.outputs = outputs
        self.input_full_names = [item.full_name for item in inputs]
        self.output_full_names = [item.full_name for item in outputs]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operator, name)


class _WholeNumbers:
    """A container of skl2onnx that takes True for 1: protobuf 7 refuses bools where integers are declared."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *args: Any, **attributes: Any) -> None:
        self._container.add_node(*args, **{name: _whole(value) for name, value in attributes.items()})


def _whole(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [int(item) if type(item).__name__ in ("bool", "bool_") else item for item in value]
