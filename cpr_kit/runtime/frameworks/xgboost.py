"""XGBoost models: native boosters first, pickles when trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import StartError
from cpr_kit.runtime import artifacts
from cpr_kit.runtime.frameworks.array import ArrayPredictor
from cpr_kit.runtime.signature import Signature

if TYPE_CHECKING:
    import numpy as np

MODEL_FILES = ("model.ubj", "model.json", "model.bst", "model.joblib", "model.pkl")
_PICKLES = (".joblib", ".pkl")


class XgboostPredictor(ArrayPredictor):
    """Serves model.ubj, model.json or model.bst; model.joblib and model.pkl are pickles and must be trusted."""

    files = MODEL_FILES
    # Most of a call is overhead: up to here a row still gets cheaper.
    max_batch_rows = 1024
    # With one thread no OpenMP pool is used. With more, loading already makes one, and the child waits for it.
    fork_safe = True
    inline = True

    _booster: Any
    _in_place = True

    def _open(self, path: Path, options: dict[str, Any]) -> Signature:
        self._booster = _load(path, options)
        if self.threads is not None:
            self._booster.set_param({"nthread": self.threads})
        self._in_place = _predicts_in_place(self._booster)
        names = self._booster.feature_names
        return Signature(
            features=self._booster.num_features(),
            names=tuple(names) if names else None,
            allow_missing=True,
            # What XGBoost makes of numbers anyway.
            dtype="float32",
        )

    def predict(self, instances: np.ndarray[Any, Any]) -> Any:
        if self._in_place:
            return self._booster.inplace_predict(instances)
        return _from_matrix(self._booster, instances)


def _predicts_in_place(booster: Any) -> bool:
    """Whether the way without a DMatrix, twice as fast for one row, gives the same answer; linear boosters refuse."""
    import numpy as np

    rows = np.random.default_rng(0).normal(scale=10.0, size=(16, booster.num_features()))
    rows[::4] = np.nan
    try:
        quick = booster.inplace_predict(rows)
    except Exception:  # noqa: BLE001  whatever it refuses, the other way remains
        return False
    return np.array_equal(quick, _from_matrix(booster, rows), equal_nan=True)


def _from_matrix(booster: Any, rows: np.ndarray[Any, Any]) -> Any:
    import xgboost

    return booster.predict(xgboost.DMatrix(rows, feature_names=booster.feature_names, nthread=1))


def _load(path: Path, options: dict[str, Any]) -> Any:
    import xgboost

    if path.suffix in _PICKLES:
        model = artifacts.unpickle(path, options)
        # A pickled XGBClassifier or XGBRegressor holds the booster that answers.
        return model.get_booster() if hasattr(model, "get_booster") else model
    try:
        return xgboost.Booster(model_file=path)
    except xgboost.core.XGBoostError as error:
        raise StartError(
            f"{path.name} is no model that xgboost {xgboost.__version__} can read",
            "save it again with booster.save_model",
        ) from error
