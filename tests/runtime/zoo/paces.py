"""A shipped predictor behind code of its author's that may take its time."""

import time

from cpr_kit.runtime.frameworks.array import ArrayPredictor
from cpr_kit.runtime.signature import Signature


class Doubles(ArrayPredictor):
    inline = True
    max_batch_rows = 64  # with `inline`, what the shipped predictors say of themselves

    def _open(self, path, options):
        return Signature(features=1)

    def load(self, artifacts_uri):
        pass

    def predict(self, rows):
        return 2 * rows[:, 0]


class FastThenSlow(Doubles):
    inline = True

    def preprocess(self, request):
        time.sleep(request.get("parameters", {}).get("sleep", 0))
        return super().preprocess(request)
