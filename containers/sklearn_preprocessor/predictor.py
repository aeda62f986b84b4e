"""The model answers class numbers; callers get the names."""

from cpr_kit import SklearnPredictor


class IrisPredictor(SklearnPredictor):
    labels = ("setosa", "versicolor", "virginica")

    def postprocess(self, classes):
        return {"predictions": [self.labels[number] for number in classes]}
