"""What is served: the stock XGBoost predictor, with the name of the class that is most probable."""

from cpr_kit import XgboostPredictor


class IrisPredictor(XgboostPredictor):
    labels = ("setosa", "versicolor", "virginica")

    def postprocess(self, probabilities):
        return {"predictions": [self.labels[row.argmax()] for row in probabilities]}
