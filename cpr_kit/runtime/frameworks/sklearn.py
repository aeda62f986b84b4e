"""scikit-learn models: finds the file, checks the instances, answers predictions."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import StartError
from cpr_kit.runtime import artifacts
from cpr_kit.runtime.frameworks.array import ArrayPredictor
from cpr_kit.runtime.signature import Signature

if TYPE_CHECKING:
    import numpy as np

    from cpr_kit.runtime.frameworks.threads import Limit

MODEL_FILES = ("model.skops", "model.onnx", "model.joblib", "model.pkl")

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


class SklearnPredictor(ArrayPredictor):
    """Serves model.skops, model.onnx, model.joblib or model.pkl, behind the preprocessor saved beside it.

    model.onnx is what `cpr convert` makes of such a model, and answers as it does. The last two are pickles and need
    `trusted = true` in cpr.toml, `load(uri, trusted=True)`, or upstream's `load(uri, allowed_extensions=[".joblib"])`.
    """

    files = MODEL_FILES
    # A call costs 0.2 ms (linear) to 5 ms (forest) whatever it holds: up to here a row still gets cheaper.
    max_batch_rows = 1024
    # Forests use Python's threads, made anew for each call; OpenMP and BLAS are held to one thread, and to a fork
    # of one thread nothing is missing. With more, HistGradientBoosting waits in the child for ever.
    fork_safe = True
    inline = True

    _model: Any
    _limit: Limit
    _checked: Callable[[], AbstractContextManager[object]] = staticmethod(contextlib.nullcontext)

    def _open(self, path: Path, options: dict[str, Any]) -> Signature:
        from cpr_kit.runtime.frameworks import estimator, threads

        if path.suffix == ".onnx":
            from cpr_kit.runtime.frameworks.graph import Graph, GraphEstimator

            answers = GraphEstimator(Graph(path, threads=self.threads))
            self._model, self._limit = answers, threads.Limit(None)
            return answers.signature
        model = read(path, options)
        if self.threads is not None:
            estimator.set_threads(model, self.threads)
        self._limit = threads.Limit(self.threads)
        self._limit.enter()
        self._model = estimator.by_name(model)
        declared = estimator.signature(self._model)
        self._checked = self._unless_checked(declared)
        return declared

    def _unless_checked(self, declared: Signature) -> Callable[[], AbstractContextManager[object]]:
        """scikit-learn looks through each input for what `preprocess` has refused already: here it need not.

        It must where an author's code stands between the two, and where gaps are allowed.
        """
        if self._preprocessor or declared.allow_missing or type(self).preprocess is not ArrayPredictor.preprocess:
            return contextlib.nullcontext
        import sklearn

        return functools.partial(sklearn.config_context, assume_finite=True, skip_parameter_validation=True)

    def predict(self, instances: np.ndarray[Any, Any]) -> Any:
        self._limit.enter()
        with self._checked():
            return self._model.predict(instances)


def read(path: Path, options: dict[str, Any]) -> Any:
    """The estimator in a skops, joblib or pickle file. Raises StartError when it is not trusted."""
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
