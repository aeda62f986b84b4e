"""Upstream's ready-made predictors: their files, their attributes, and their trust in pickles.

The kit's own, under the kit's names, do more and refuse pickles that nobody vouched for. Those who derive from
upstream's count on other things: that the artifacts lie in the working directory, and that `_model` is theirs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpr_kit.errors import RequestError, StartError
from cpr_kit.runtime import instances
from cpr_kit.runtime.artifacts import unpickle
from cpr_kit.runtime.predictor import Predictor
from cpr_kit.sdk.download import download_model_artifacts

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger("cpr_kit")

_BOOSTER = ".bst"


class _FilePredictor(Predictor):
    files: ClassVar[tuple[str, ...]] = ()

    def _find(self, artifacts_uri: str, options: dict[str, Any]) -> Path:
        """The first of `files` that is there and allowed. Raises ValueError, as upstream does."""
        download_model_artifacts(artifacts_uri)
        allowed = options.get("allowed_extensions")
        names = [name for name in self.files if allowed is None or name.endswith(tuple(allowed))]
        path = next((Path(name) for name in names if Path(name).exists()), None)
        if path is None:
            there = ", ".join(sorted(each.name for each in Path.cwd().iterdir())) or "nothing"
            wanted = ", ".join(names) or f"none, since allowed_extensions is {allowed}"
            raise ValueError(f"One of these model files must be among the artifacts: {wanted}; there is {there}")
        if path.suffix != _BOOSTER:
            logger.warning("%s is a pickle, which runs code as it loads: serve only what you made yourself", path)
        return path

    def _unpickled(self, path: Path) -> Any:
        try:
            return unpickle(path, {"trusted": True})
        except ModuleNotFoundError as error:
            if error.name != "joblib":
                raise
            raise StartError(
                f"{path} takes joblib, which is not installed", "add joblib to requirements.txt and build again"
            ) from error

    def postprocess(self, prediction_results: Any) -> Any:
        return {"predictions": prediction_results.tolist()}


class SklearnPredictor(_FilePredictor):
    """Serves model.joblib or model.pkl. `load` takes `allowed_extensions=`."""

    files = ("model.joblib", "model.pkl")
    # A model's answer for a row does not depend on other rows: what waits may share a call.
    max_batch_rows: ClassVar[int | None] = 1024

    _model: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "predict" in vars(cls) and "max_batch_rows" not in vars(cls):
            cls.max_batch_rows = None

    def load(self, artifacts_uri: str, **kwargs: Any) -> None:
        self._model = self._unpickled(self._find(artifacts_uri, kwargs))

    def preprocess(self, prediction_input: Any) -> np.ndarray[Any, Any]:
        """An array of "instances". Raises RequestError when they have different shapes."""
        import numpy as np

        try:
            return np.asarray(instances.of(prediction_input))
        except ValueError as error:
            raise RequestError("the instances have different shapes") from error

    def predict(self, instances: Any) -> Any:
        return self._model.predict(instances)


class XgboostPredictor(_FilePredictor):
    """Serves model.bst, model.joblib or model.pkl. `load` takes `allowed_extensions=`."""

    files = ("model.bst", "model.joblib", "model.pkl")

    _booster: Any

    def load(self, artifacts_uri: str, **kwargs: Any) -> None:
        import xgboost

        path = self._find(artifacts_uri, kwargs)
        if path.suffix == _BOOSTER:
            self._booster = xgboost.Booster(model_file=path)
            return
        try:
            self._booster = self._unpickled(path)
        except KeyError:
            # joblib's word for a file that is none of its own: some save a booster's own format under that name.
            self._booster = xgboost.Booster(model_file=path)

    def preprocess(self, prediction_input: Any) -> Any:
        """A DMatrix of "instances". Raises RequestError for what can be none."""
        import xgboost

        try:
            return xgboost.DMatrix(instances.of(prediction_input))
        except (ValueError, TypeError) as error:
            raise RequestError('"instances" must be lists of numbers, all equally long') from error

    def predict(self, instances: Any) -> Any:
        return self._booster.predict(instances)
