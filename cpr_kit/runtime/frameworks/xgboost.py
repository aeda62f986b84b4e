"""XGBoost models: native boosters first, pickles when trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpr_kit.runtime import artifacts, instances, preprocessor
from cpr_kit.runtime.predictor import Predictor

MODEL_FILES = ("model.ubj", "model.json", "model.bst", "model.joblib", "model.pkl")
_PICKLES = (".joblib", ".pkl")


class XgboostPredictor(Predictor):
    """Serves model.ubj, model.json or model.bst; model.joblib and model.pkl are pickles and must be trusted."""

    _booster: Any
    _preprocessor: preprocessor.Preprocessor | None = None

    def load(self, artifacts_uri: str, **kwargs: Any) -> None:
        folder = artifacts.fetch(artifacts_uri)
        self._booster = _load(artifacts.choose(folder, MODEL_FILES), kwargs)
        self._preprocessor = preprocessor.find(folder)

    def preprocess(self, prediction_input: Any) -> Any:
        """`{"instances": [[...], ...]}` -> DMatrix. Raises RequestError naming the row that does not fit."""
        import xgboost

        rows = instances.array(instances.of(prediction_input), features=self._features())
        rows = self._preprocessor.transform(rows) if self._preprocessor else rows
        return xgboost.DMatrix(rows, feature_names=self._booster.feature_names)

    def predict(self, instances: Any) -> Any:
        return self._booster.predict(instances)

    def postprocess(self, prediction_results: Any) -> Any:
        return {"predictions": prediction_results}

    def _features(self) -> int | None:
        return None if self._preprocessor else self._booster.num_features()


def _load(path: Path, options: dict[str, Any]) -> Any:
    import xgboost

    if path.suffix not in _PICKLES:
        return xgboost.Booster(model_file=path)
    model = artifacts.unpickle(path, options)
    # A pickled XGBClassifier or XGBRegressor holds the booster that answers.
    return model.get_booster() if hasattr(model, "get_booster") else model
