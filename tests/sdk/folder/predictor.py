"""Written against the SDK's names."""

from google.cloud.aiplatform.prediction.predictor import Predictor


class Doubles(Predictor):
    def __init__(self):
        super().__init__()
        self.factor = 2

    def load(self, artifacts_uri, **kwargs):
        self.uri = artifacts_uri

    def predict(self, instances):
        return {"predictions": [self.factor * value for value in instances["instances"]]}
