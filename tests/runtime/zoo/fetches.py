from cpr_kit import Predictor
from cpr_kit.runtime import artifacts


class Fetches(Predictor):
    """Answers with what each file of its artifacts holds."""

    def load(self, artifacts_uri, **kwargs):
        folder = artifacts.fetch(artifacts_uri)
        self.files = {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}

    def predict(self, instances):
        return {"predictions": [self.files]}
