"""The author's interface to a model: load once, then preprocess, predict, postprocess for each request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Predictor(ABC):
    """Subclass this; the four methods are those of google.cloud.aiplatform.prediction, so it runs under either.

    Each may also be `async def`. All of them run in one thread, one request at a time unless they await.
    A `predict` that yields is streamed.

        class Doubler(Predictor):
            def load(self, artifacts_uri):
                self.factor = 2

            def predict(self, request):
                return {"predictions": [self.factor * x for x in request["instances"]]}
    """

    max_batch_rows: ClassVar[int | None] = None
    """Set this to let requests that wait share one call of `predict`, of at most so many rows.

    `predict` then takes rows of several requests, as an array, a list, or `{"instances": [...]}`, and returns one
    entry for each row, in their order, none of which depends on another row.
    """

    max_batch_delay: ClassVar[float] = 0.0
    """Seconds that the first request may wait for others. 0: what waits anyway goes together, nothing waits longer."""

    wants_array: ClassVar[bool] = False
    """Set this where `preprocess` takes "instances" as an (n, features) array of floats, whatever format came in."""

    media_types: ClassVar[tuple[str, ...]] = ()
    """Content types beyond the kit's own that `preprocess` takes, as `{"instances": [bytes]}`: ("image/*",)."""

    @abstractmethod
    def load(self, artifacts_uri: str, **kwargs: Any) -> None:
        """Load the model. `artifacts_uri` is AIP_STORAGE_URI: a folder, a gs:// URI, or empty."""

    def preprocess(self, prediction_input: Any) -> Any:
        """From the decoded request, `{"instances": [...], "parameters": {...}?}`, to what `predict` takes."""
        return prediction_input

    @abstractmethod
    def predict(self, instances: Any) -> Any:
        """From what `preprocess` returned to the model's answer."""

    def postprocess(self, prediction_results: Any) -> Any:
        """To the response: `{"predictions": [...]}`, one for each instance, in their order."""
        return prediction_results
