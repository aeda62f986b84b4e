"""What the container starts: it makes the handler, which loads the model, and hands it to the kit's server."""

import os

from predictor import IrisPredictor

from cpr_kit import PredictionHandler
from cpr_kit.runtime.server import ModelServer

if __name__ == "__main__":
    handler = PredictionHandler(os.environ["AIP_STORAGE_URI"], predictor=IrisPredictor)
    ModelServer(handler).start()
