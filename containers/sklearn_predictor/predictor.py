"""Everything by hand: the file, the request, the response."""

import joblib

from cpr_kit import Predictor
from cpr_kit.runtime import artifacts, instances


class IrisPredictor(Predictor):
    labels = ("setosa", "versicolor", "virginica")

    def load(self, artifacts_uri):
        self.model = joblib.load(artifacts.fetch(artifacts_uri) / "model.joblib")

    def predict(self, request):
        # The caller hears what is wrong with a row; without this, of scikit-learn's error no more than a 500.
        rows = instances.array(instances.of(request), features=self.model.n_features_in_)
        return {"predictions": [self.labels[number] for number in self.model.predict(rows)]}
