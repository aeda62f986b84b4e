"""The state of preprocessing, learned in training and saved beside the model as arrays and plain values."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from cpr_kit.errors import StartError
from cpr_kit.runtime.signature import Signature

if TYPE_CHECKING:
    import numpy as np

FILE = "preprocessor.npz"
_PLAIN = "__plain__"
_Self = TypeVar("_Self", bound="Preprocessor")


class Preprocessor(ABC):
    """Subclass this; `fit` gets an (n, features) array of finite floats in which no column is constant.

        class Scaler(Preprocessor):
            def fit(self, instances):
                self.mean, self.std = instances.mean(0), instances.std(0)
                return self

            def transform(self, instances):
                return (instances - self.mean) / self.std

        Scaler().fit(X).save("model/")

    Whatever `fit` stores on `self` is saved: arrays, numbers, text, lists and dictionaries of those. So is how many
    features it got: the shipped predictors refuse a request with more or fewer, which numpy might well broadcast.
    """

    allow_constant: ClassVar[bool] = False
    """Set this where a column without variance is no mistake; by default `fit` refuses it."""

    _features: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "fit" in vars(cls):
            cls.fit = _checked(vars(cls)["fit"])  # type: ignore[method-assign]

    @abstractmethod
    def fit(self: _Self, instances: np.ndarray[Any, Any]) -> _Self:
        """Learn from (n, features) training instances; return self."""

    @abstractmethod
    def transform(self, instances: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """(n, features) -> what the model takes, row by row."""

    def save(self, folder: str | Path) -> Path:
        """Write `preprocessor.npz` into the folder of the model. Raises TypeError for state that is no plain value."""
        import json

        import numpy as np

        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        plain = {name: _plain(name, value) for name, value in vars(self).items() if name not in arrays}
        for name, array in arrays.items():
            if array.dtype.hasobject:
                raise TypeError(f"{type(self).__name__}.{name} is an array of objects; only a pickle could hold it")
        header = {"module": type(self).__module__, "class": type(self).__qualname__, "plain": plain}
        path = Path(folder) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, allow_pickle=False, **arrays, **{_PLAIN: np.array(json.dumps(header))})
        return path

    @classmethod
    def load(cls: type[_Self], folder: str | Path) -> _Self:
        """Read what `save` wrote. `folder` may be a gs:// URI. Raises StartError when it is not there or damaged."""
        from cpr_kit.runtime import artifacts

        path = artifacts.fetch(str(folder)) / FILE
        header, arrays = _read(path)
        preprocessor = cls.__new__(cls)
        vars(preprocessor).update(header["plain"])
        vars(preprocessor).update(arrays)
        return preprocessor


def declared(preprocessor: Preprocessor) -> Signature:
    """What `transform` takes: as many features as `fit` got, where that was saved with it."""
    return Signature(features=preprocessor._features)  # noqa: SLF001


def _checked(fit: Callable[..., Any]) -> Callable[..., Any]:
    """`fit` behind the checks that every training set must pass."""

    @functools.wraps(fit)
    def checked(self: Preprocessor, instances: Any, *args: Any, **kwargs: Any) -> Any:
        array = training_instances(instances, allow_constant=self.allow_constant)
        fitted = fit(self, array, *args, **kwargs)
        self._features = array.shape[1]
        return fitted

    return checked


def training_instances(instances: Any, *, allow_constant: bool) -> np.ndarray[Any, Any]:
    """As an (n, features) float array. Raises ValueError naming the first column or row that cannot be learned from."""
    import numpy as np

    array = np.asarray(instances, dtype=float)
    if array.ndim != 2 or not array.size:  # noqa: PLR2004
        raise ValueError(f"fit takes an (n, features) array; this one has shape {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"row {row}, column {column} is {array[row, column]}; fit takes finite numbers")
    constant = np.flatnonzero(array.min(axis=0) == array.max(axis=0))
    if constant.size and not allow_constant:
        column = int(constant[0])
        raise ValueError(
            f"column {column} has zero variance: all {len(array)} rows hold {array[0, column]:g}; "
            "drop the column, or set allow_constant = True on the class"
        )
    return array


def _plain(name: str, value: Any) -> Any:
    """The value, if JSON gives it back as it was; numpy scalars become Python's."""
    import json

    value = value.item() if hasattr(value, "item") and not isinstance(value, (str, bytes)) else value
    try:
        same = json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        same = False
    if not same:
        raise TypeError(
            f"{name} is a {type(value).__name__}; a preprocessor keeps arrays, numbers, text, lists and "
            "dictionaries with text keys, so that no pickle is needed"
        )
    return value


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import json
    import zipfile

    import numpy as np

    if not path.exists():
        raise StartError(
            f"{FILE} is not among the model's artifacts in {path.parent}",
            f'save it there in training: preprocessor.fit(instances).save("{path.parent.name}/")',
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays.pop(_PLAIN)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StartError(f"{path} is no saved preprocessor: {error}", "save it again with its own save()") from error
    return header, arrays


def find(folder: Path) -> Preprocessor | None:
    """The preprocessor of a model: the class cpr.toml names, or the one already imported that wrote the file."""
    from cpr_kit.runtime.importer import load_class
    from cpr_kit.runtime.settings import Settings

    reference = Settings.from_environ().preprocessor
    if reference is not None:
        return load_class(reference).load(folder)  # type: ignore[attr-defined, no-any-return]
    if not (folder / FILE).exists():
        return None
    wanted = _read(folder / FILE)[0]["class"]
    classes = {cls.__qualname__: cls for cls in _subclasses(Preprocessor)}  # type: ignore[type-abstract]
    if wanted in classes:
        return classes[wanted].load(folder)
    raise StartError(
        f"{FILE} was written by a class {wanted}, and nothing says where that is",
        f'name it under [model] in cpr.toml: preprocessor = "module:{wanted}"',
    )


def _subclasses(cls: type[Preprocessor]) -> list[type[Preprocessor]]:
    return [found for sub in cls.__subclasses__() for found in (sub, *_subclasses(sub))]
