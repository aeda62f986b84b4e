"""What the shipped predictors share: an (n, features) array in, n predictions out, each row by itself."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpr_kit.runtime import artifacts, instances, preprocessor
from cpr_kit.runtime.predictor import Predictor
from cpr_kit.runtime.signature import Signature

if TYPE_CHECKING:
    import numpy as np


_STEPS = frozenset(("load", "preprocess", "predict", "postprocess"))


class ArrayPredictor(Predictor):
    """A model file, found among the artifacts, behind the preprocessor saved beside it.

    A subclass of yours keeps what holds for the shipped class until it writes over it: with a `predict` of your own,
    requests are joined only when you set `max_batch_rows`; with a `load` of your own, `fork_safe` is open again.
    """

    files: ClassVar[tuple[str, ...]] = ()
    """Names of model files, in the order in which they are looked for."""

    wants_array: ClassVar[bool] = True

    fork_safe: ClassVar[bool | None] = None
    """Whether a model loaded before fork() may answer in the children; None: unknown."""

    threads: ClassVar[int | None] = 1
    """Threads inside one prediction; None leaves it to the model and its library.

    One, because a server has a worker for each core: more threads than that only wait for each other.
    """

    inline: bool = False
    """Whether short turns may run on the server's loop (`pace.py`): only where nothing is an author's own."""

    arrays_are_written: bool = False
    """Set by a server that writes arrays by itself, which is quicker than lists. Upstream's server cannot."""

    _preprocessor: preprocessor.Preprocessor | None = None
    _signature: Signature = Signature()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "predict" in own and "max_batch_rows" not in own:
            cls.max_batch_rows = None
        if "load" in own and "fork_safe" not in own:
            cls.fork_safe = None
        if not _STEPS.isdisjoint(own) and "inline" not in own:
            cls.inline = False
        if own.get("threads", 1) != 1 and "fork_safe" not in own:
            # OpenMP's pool does not survive a fork: a child that needs it waits for threads that are not there.
            cls.fork_safe = False

    def load(self, artifacts_uri: str, **kwargs: Any) -> None:
        """Raises StartError when no model file is there, or the one that is there cannot be read or trusted."""
        folder = artifacts.fetch(artifacts_uri)
        self._preprocessor = preprocessor.find(folder)
        declared = self._open(artifacts.choose(folder, self.files), kwargs)
        # Behind a preprocessor of the author's, what the model wants says nothing about the request.
        self._signature = preprocessor.declared(self._preprocessor) if self._preprocessor else declared
        self.inline = self.inline and self._preprocessor is None

    @abstractmethod
    def _open(self, path: Path, options: dict[str, Any]) -> Signature:
        """Load the file; what its model declares."""

    @property
    def signature(self) -> Signature:
        """What a request's rows must look like; known once the model is loaded."""
        return self._signature

    def preprocess(self, prediction_input: Any) -> Any:
        """`{"instances": [[...], ...]}` -> (n, features) array. Raises RequestError naming the row that is wrong."""
        rows = instances.array(instances.of(prediction_input), signature=self._signature)
        return self._preprocessor.transform(rows) if self._preprocessor else rows

    @abstractmethod
    def predict(self, instances: np.ndarray[Any, Any]) -> Any:
        """(n, features) -> n predictions along axis 0."""

    def postprocess(self, prediction_results: Any) -> Any:
        if not self.arrays_are_written and hasattr(prediction_results, "tolist"):
            prediction_results = prediction_results.tolist()
        return {"predictions": prediction_results}
