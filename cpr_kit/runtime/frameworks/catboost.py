"""CatBoost models, from the file that `model.save_model` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpr_kit.errors import StartError
from cpr_kit.runtime.frameworks.array import ArrayPredictor
from cpr_kit.runtime.signature import Signature

if TYPE_CHECKING:
    import numpy as np

_KINDS = {"label": "Class", "probabilities": "Probability"}


class CatboostPredictor(ArrayPredictor):
    """Serves model.cbm. Answers are labels of a classifier and values of any other model, as CatBoost's own `predict`.

    class Scores(CatboostPredictor):
        output = "probabilities"
    """

    files = ("model.cbm",)
    # Most of a call is overhead: up to here a row still gets cheaper.
    max_batch_rows = 1024
    # CatBoost makes its threads in the call that uses them, and with one it makes none.
    fork_safe = True
    inline = True

    output: ClassVar[str | None] = None
    """"label" or "probabilities" of a classifier; None: labels, and of a model without classes its values."""

    _booster: Any
    _kind: str
    _categories: tuple[int, ...] = ()

    def _open(self, path: Path, options: dict[str, Any]) -> Signature:  # noqa: ARG002
        self._booster = _load(path)
        self._kind = self._chosen(path.name)
        self._categories = tuple(self._booster.get_cat_feature_indices())
        if self._booster.get_text_feature_indices() or self._booster.get_embedding_feature_indices():
            raise StartError(f"{path.name} has columns of text or embeddings", "serve it with a Predictor of your own")
        names = tuple(self._booster.feature_names_)
        # The names that CatBoost makes up itself.
        named = names != tuple(str(number) for number in range(len(names)))
        return Signature(
            features=len(names),
            names=names if named else None,
            allow_missing=not self._categories,
            dtype=None if self._categories else "float64",
        )

    def predict(self, instances: np.ndarray[Any, Any]) -> Any:
        rows = _categorical(instances, self._categories) if self._categories else instances
        # -1 is CatBoost's word for all cores.
        answer = self._booster.predict(rows, prediction_type=self._kind, thread_count=self.threads or -1)
        return answer[:, 0] if self._kind == "Class" and answer.ndim == 2 else answer  # noqa: PLR2004

    def _chosen(self, file: str) -> str:
        if self.output is not None and (self.output not in _KINDS or not len(self._booster.classes_)):
            raise StartError(
                f'{file} has no output "{self.output}"',
                "leave output unset for a model without classes, else set it to label or probabilities",
            )
        if self.output is not None:
            return _KINDS[self.output]
        return "Class" if len(self._booster.classes_) else "RawFormulaVal"


def _categorical(rows: np.ndarray[Any, Any], columns: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Categories as CatBoost takes them, text or whole numbers: JSON does not tell 1 from 1.0."""
    rows = rows.astype(object)
    for column in columns:
        rows[:, column] = [
            int(value) if isinstance(value, float) and value.is_integer() else value for value in rows[:, column]
        ]
    return rows


def _load(path: Path) -> Any:
    import catboost

    booster = catboost.CatBoost()
    try:
        booster.load_model(path)
    except catboost.CatBoostError as error:
        raise StartError(
            f"{path.name} is no model that catboost {catboost.__version__} can read",
            'save it again with model.save_model("model.cbm")',
        ) from error
    return booster
