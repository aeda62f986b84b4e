"""A fitted scikit-learn estimator, looked at from outside: what is in it, what it takes, how many threads it uses."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import StartError
from cpr_kit.runtime.signature import Signature

if TYPE_CHECKING:
    import numpy as np

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type)
_LIBRARIES = ("sklearn.", "xgboost.", "lightgbm.")
_TREAT_COLUMNS_APART = frozenset({"ColumnTransformer", "FeatureUnion", "FunctionTransformer"})
_IN_32_BITS = ("sklearn.tree.", "sklearn.ensemble._forest", "sklearn.ensemble._gb")
_NOT_A_NUMBER = "could not convert string to float"


def members(model: Any) -> Iterator[Any]:
    """The estimator and every one inside it, each once: steps, fitted copies, the best of a search."""
    seen: dict[int, Any] = {}
    waiting = [model]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen[id(value)] = value  # kept, so that no other object gets its number
        if hasattr(value, "get_params"):
            yield value
        waiting.extend(_inside(value))


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple, set)):
        yield from value
    elif getattr(getattr(value, "dtype", None), "hasobject", False):
        yield from value.ravel().tolist()
    elif hasattr(value, "get_params") or type(value).__module__.startswith("sklearn."):
        yield from getattr(value, "__dict__", {}).values()


def set_threads(model: Any, count: int) -> None:
    """`n_jobs` of the estimator and of all inside it; results stay the same.

    On one row, two threads that share the trees of a forest take five times as long as one.
    """
    from sklearn.exceptions import NotFittedError

    for member in members(model):
        if "n_jobs" in vars(member):
            member.n_jobs = count
        if hasattr(member, "get_booster"):
            with contextlib.suppress(NotFittedError):  # the pattern that an ensemble made its copies from
                member.get_booster().set_param({"nthread": count})


def signature(model: Any) -> Signature:
    """What the estimator declares, and, where it declares nothing, what it does with a row of that kind."""
    features = getattr(model, "n_features_in_", None)
    names = getattr(model, "feature_names_in_", None)
    return Signature(
        features=None if features is None else int(features),
        names=None if names is None else tuple(str(name) for name in names),
        allow_missing=features is not None and _refusal(model, [float("nan")] * features) is None,
        dtype=_dtype(model, features),
    )


def _dtype(model: Any, features: int | None) -> str | None:
    if features is None or not _takes_numbers_alone(model, features):
        return None
    # Trees look at rows in 32 bits, and what is too large for those is the caller's mistake.
    return "float32" if type(model).__module__.startswith(_IN_32_BITS) else "float64"


def _takes_numbers_alone(model: Any, features: int) -> bool:
    """Whether text is refused in every column. One row tells, where all columns go the same way."""
    for member in members(model):
        kind = type(member)
        if not f"{kind.__module__}.".startswith(_LIBRARIES) or kind.__name__ in _TREAT_COLUMNS_APART:
            return False
    return _NOT_A_NUMBER in str(_refusal(model, ["text"] * features))


def _refusal(model: Any, row: list[Any]) -> Exception | None:
    """What the estimator raises for this row, if anything."""
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.predict(np.array([row], dtype=object if isinstance(row[0], str) else float))
        except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
            return error
    return None


def by_name(model: Any) -> Any:
    """The estimator itself, or, where it looks up columns by their names, one that takes arrays all the same."""
    if getattr(model, "feature_names_in_", None) is None:
        return model
    if any(_selects_by_name(member) for member in members(model)):
        return ByName(model)
    # Names and their order are checked against the signature, so that scikit-learn need not say so at each call.
    warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
    return model


def _selects_by_name(member: Any) -> bool:
    if type(member).__name__ != "ColumnTransformer":
        return False
    columns = [columns for _, _, columns in getattr(member, "transformers_", ())]
    return any(isinstance(name, str) for part in columns for name in (part if isinstance(part, list) else [part]))


class ByName:
    """Gives the model a data frame with the names that it was fitted with."""

    def __init__(self, model: Any) -> None:
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise StartError(
                "the model selects columns by name, which takes pandas, and that is not installed",
                "add pandas to requirements.txt, or select columns by number when you fit",
            ) from error
        self._model = model
        self._frame = pd.DataFrame

    def predict(self, rows: np.ndarray[Any, Any]) -> Any:
        return self._model.predict(self._named(rows))

    def predict_proba(self, rows: np.ndarray[Any, Any]) -> Any:
        return self._model.predict_proba(self._named(rows))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _named(self, rows: np.ndarray[Any, Any]) -> Any:
        return self._frame(rows, columns=self._model.feature_names_in_).infer_objects()
