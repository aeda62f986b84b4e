"""google-cloud-aiplatform's Custom Prediction Routine: the author's class is the kit's `Author`, word for word."""

# ruff: noqa: ARG002  the framework names the arguments

from typing import Any

import work
from google.cloud.aiplatform.prediction.predictor import Predictor


class Author(Predictor):
    def load(self, artifacts_uri: str, **kwargs: Any) -> None:
        self.work = work.load()

    def predict(self, request: Any) -> Any:
        return {"predictions": self.work(request["instances"])}
