"""What is served: the stock scikit-learn predictor, with names for the model's class numbers."""

from cpr_kit import SklearnPredictor


class IrisPredictor(SklearnPredictor):
    labels = ("setosa", "versicolor", "virginica")

    def postprocess(self, classes):
        return {"predictions": [self.labels[number] for number in classes]}
