"""Model files by their names: what they are, and what serves them.

The names are those that Vertex AI's prebuilt images need (`prebuilt/catalogue.py`) and that this kit's predictors read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`predictors` are the kit's classes that serve it."""

    name: str
    what: str
    predictors: tuple[str, ...] = ()
    note: str = ""


_PICKLE = "a pickle runs code as it loads, so the kit's predictors load it only where it is trusted"
KINDS = (
    Kind(name="model.skops", what="a scikit-learn model", predictors=("SklearnPredictor",)),
    Kind(
        name="model.joblib",
        what="a scikit-learn or XGBoost model, pickled",
        predictors=("SklearnPredictor", "XgboostPredictor"),
        note=_PICKLE,
    ),
    Kind(
        name="model.pkl",
        what="a scikit-learn or XGBoost model, pickled",
        predictors=("SklearnPredictor", "XgboostPredictor"),
        note=_PICKLE,
    ),
    Kind(name="model.bst", what="an XGBoost model", predictors=("XgboostPredictor",)),
    Kind(
        name="model.ubj",
        what="an XGBoost model",
        predictors=("XgboostPredictor",),
        note="the prebuilt images look for model.bst",
    ),
    Kind(
        name="model.json",
        what="an XGBoost model",
        predictors=("XgboostPredictor",),
        note="the prebuilt images look for model.bst",
    ),
    Kind(name="model.onnx", what="an ONNX graph", predictors=("OnnxPredictor", "SklearnPredictor")),
    Kind(name="model.txt", what="a LightGBM model", predictors=("LightgbmPredictor",)),
    Kind(name="model.cbm", what="a CatBoost model", predictors=("CatboostPredictor",)),
    Kind(
        name="model.mar",
        what="a PyTorch model archive",
        note='in batch prediction its images get each instance as {"data": ...}',
    ),
)


def found(folder: Path) -> list[Kind]:
    """The model files that lie in a folder, or the one that is named itself."""
    if folder.is_file():
        return [kind for kind in KINDS if kind.name == folder.name]
    return [kind for kind in KINDS if (folder / kind.name).is_file()]


def prebuilt(file: str) -> list[str]:
    """The images of Vertex AI for CPUs, available now, that load a file of this name."""
    from cpr_kit.prebuilt import catalogue

    images = catalogue.IMAGES.values()
    return [each.name for each in images if each.listed and each.accelerator == "cpu" and file in each.framework.files]


def facts(folder: Path, kinds: list[Kind]) -> list[dict[str, Any]]:
    return [_fact(folder if folder.is_file() else folder / kind.name, kind) for kind in kinds]


def _fact(path: Path, kind: Kind) -> dict[str, Any]:
    value: dict[str, Any] = {
        "file": kind.name,
        "what": kind.what,
        "bytes": path.stat().st_size,
        "prebuilt": prebuilt(kind.name),
        "predictors": list(kind.predictors),
        "note": kind.note or None,
    }
    if kind.name == "model.onnx":
        value |= _graph(path)
    return value


def text(folder: Path, values: list[dict[str, Any]]) -> str:
    lines = []
    for value in values:
        path = folder if folder.is_file() else folder / value["file"]
        lines += [f"{path}  {value['what']}, {value['bytes']:,} bytes"]
        for side, label in (("inputs", "takes"), ("outputs", "gives")):
            for tensor in value.get(side, ()):
                lines.append(f"  {label:9}  {tensor['name']}  {tensor['dtype']}  {tensor['size']}".rstrip())
        lines.append(f"  prebuilt   {', '.join(value['prebuilt']) or 'no image of Vertex AI reads it'}")
        lines.append(f"  predictor  {' or '.join(value['predictors']) or 'none of this kit; write your own'}")
        lines += [f"  note       {value['note']}"] * bool(value["note"])
    return "\n".join(lines)


def _graph(path: Path) -> dict[str, Any]:
    """Inputs and outputs as onnxruntime tells them; without it, what brings it."""
    from cpr_kit.errors import ConfigError, MissingExtra
    from cpr_kit.savedmodel.signatures import shown, size_of

    try:
        import onnxruntime
    except ImportError:
        return {"note": f"its inputs are not shown: {MissingExtra('onnxruntime', 'onnx')}"}
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = shown(str(error).partition("\n")[0])
        raise ConfigError(f"{path} cannot be loaded as an ONNX graph: {reason}") from error

    def tensors(nodes: Any) -> list[dict[str, Any]]:
        return [
            {"name": shown(node.name), "dtype": node.type.removeprefix("tensor(").removesuffix(")"), "size": size(node)}
            if node.type.startswith("tensor(")
            else {"name": shown(node.name), "dtype": node.type, "size": ""}
            for node in nodes
        ]

    def size(node: Any) -> str:
        return size_of(tuple(each if isinstance(each, int) else None for each in node.shape))

    return {"inputs": tensors(session.get_inputs()), "outputs": tensors(session.get_outputs())}
