"""LightGBM models, from the text that `booster.save_model` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import StartError
from cpr_kit.runtime.frameworks.array import ArrayPredictor
from cpr_kit.runtime.signature import Signature

if TYPE_CHECKING:
    import numpy as np


class LightgbmPredictor(ArrayPredictor):
    """Serves model.txt. Answers are those of `Booster.predict`: values, or probabilities of a classifier."""

    files = ("model.txt",)
    # A row costs the same from 16 on; more of them would only make the others wait.
    max_batch_rows = 256
    # With one thread no OpenMP pool is used. With more, loading already makes one, and the child waits for it.
    fork_safe = True
    inline = True

    _booster: Any

    def _open(self, path: Path, options: dict[str, Any]) -> Signature:  # noqa: ARG002
        self._booster = _load(path)
        names = tuple(self._booster.feature_name())
        # The names that LightGBM makes up itself.
        named = names != tuple(f"Column_{number}" for number in range(len(names)))
        return Signature(features=len(names), names=names if named else None, allow_missing=True, dtype="float64")

    def predict(self, instances: np.ndarray[Any, Any]) -> Any:
        # 0 is LightGBM's word for its own default.
        return self._booster.predict(instances, num_threads=self.threads or 0)


def _load(path: Path) -> Any:
    import lightgbm

    try:
        return lightgbm.Booster(model_file=path)
    except lightgbm.basic.LightGBMError as error:
        raise StartError(
            f"{path.name} is no model that lightgbm {lightgbm.__version__} can read",
            "save it again with booster.save_model",
        ) from error
