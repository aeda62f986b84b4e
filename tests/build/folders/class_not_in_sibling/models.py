from cpr_kit import Predictor


class Dubler(Predictor):
    def load(self, artifacts_uri):
        self.factor = 2

    def predict(self, instances):
        return {"predictions": [self.factor * x for x in instances["instances"]]}
