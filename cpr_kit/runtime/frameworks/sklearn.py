"""scikit-learn models: finds the file, checks the instances, answers predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import StartError
from cpr_kit.runtime import artifacts, instances, preprocessor
from cpr_kit.runtime.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np

MODEL_FILES = ("model.skops", "model.joblib", "model.pkl")

# scikit-learn's own holders of learned numbers, which skops asks about as it does of any type without an audit.
_DATA_TYPES = frozenset(
    {
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.tree._tree.Tree",
    }
)


class SklearnPredictor(Predictor):
    """Serves model.skops, model.joblib or model.pkl, behind the preprocessor saved beside it.

    The last two are pickles and need `trusted = true` in cpr.toml, `load(uri, trusted=True)`, or upstream's
    `load(uri, allowed_extensions=[".joblib"])`.
    """

    _model: Any
    _preprocessor: preprocessor.Preprocessor | None = None

    def load(self, artifacts_uri: str, **kwargs: Any) -> None:
        folder = artifacts.fetch(artifacts_uri)
        self._model = _load(artifacts.choose(folder, MODEL_FILES), kwargs)
        self._preprocessor = preprocessor.find(folder)

    def preprocess(self, prediction_input: Any) -> Any:
        """`{"instances": [[...], ...]}` -> (n, features) array. Raises RequestError naming the row that is wrong."""
        rows = instances.array(instances.of(prediction_input), features=self._features())
        return self._preprocessor.transform(rows) if self._preprocessor else rows

    def predict(self, instances: np.ndarray[Any, Any]) -> Any:
        return self._model.predict(instances)

    def postprocess(self, prediction_results: Any) -> Any:
        return {"predictions": prediction_results}

    def _features(self) -> int | None:
        # Behind a preprocessor of the author's, the model's own count says nothing about the request.
        return None if self._preprocessor else getattr(self._model, "n_features_in_", None)


def _load(path: Path, options: dict[str, Any]) -> Any:
    if path.suffix != ".skops":
        return artifacts.unpickle(path, options)
    import skops.io

    asked = skops.io.get_untrusted_types(file=path)
    unknown = sorted(set(asked) - _DATA_TYPES)
    if unknown and not artifacts.trusts(path, options):
        raise StartError(
            f"{path.name} holds types that skops does not know as safe: {', '.join(unknown)}",
            "if you made this file, set trusted = true under [model] in cpr.toml",
        )
    return skops.io.load(path, trusted=asked)
