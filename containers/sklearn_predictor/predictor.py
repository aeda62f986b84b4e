"""Everything by hand: the file, the request, the response."""

import joblib

from cpr_kit import Predictor
from cpr_kit.runtime import artifacts


class IrisPredictor(Predictor):
    labels = ("setosa", "versicolor", "virginica")

    def load(self, artifacts_uri):
        self.model = joblib.load(artifacts.fetch(artifacts_uri) / "model.joblib")

    def predict(self, request):
        classes = self.model.predict(request["instances"])
        return {"predictions": [self.labels[number] for number in classes]}
