"""The kit's ways to serve the same: the shipped predictor, an author's class, and that with joined requests."""

# ruff: noqa: ARG002  the framework names the arguments

from typing import Any

import work

from cpr_kit import Predictor, SklearnPredictor


class Shipped(SklearnPredictor):
    pass


class Author(Predictor):
    def load(self, artifacts_uri: str, **kwargs: Any) -> None:
        self.work = work.load()

    def predict(self, request: Any) -> Any:
        return {"predictions": self.work(request["instances"])}


class Joined(Author):
    max_batch_rows = 64
