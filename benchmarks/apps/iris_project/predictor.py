"""A predictor as upstream's tutorials have it: the SDK's names, nothing of the kit."""

from google.cloud.aiplatform.prediction.sklearn.predictor import SklearnPredictor


class IrisPredictor(SklearnPredictor):
    names = ("setosa", "versicolor", "virginica")

    def postprocess(self, prediction_results):
        return {"predictions": [self.names[number] for number in prediction_results]}
