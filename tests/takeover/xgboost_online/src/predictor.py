from google.cloud.aiplatform.prediction.xgboost.predictor import XgboostPredictor

NAMES = ("setosa", "versicolor", "virginica")


class CprPredictor(XgboostPredictor):
    def postprocess(self, prediction_results):
        answer = super().postprocess(prediction_results)
        return {"predictions": [NAMES[round(number)] for number in answer["predictions"]]}
