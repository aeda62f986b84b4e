import pickle

import numpy as np
from google.cloud.aiplatform.prediction.sklearn.predictor import SklearnPredictor
from google.cloud.aiplatform.utils import prediction_utils
from sklearn.datasets import load_iris


class CprPredictor(SklearnPredictor):
    def __init__(self):
        return

    def load(self, artifacts_uri: str) -> None:
        super().load(artifacts_uri)
        prediction_utils.download_model_artifacts(artifacts_uri)
        with open("preprocessor.pkl", "rb") as file:
            self._preprocessor = pickle.load(file)
        self._class_names = load_iris().target_names

    def preprocess(self, prediction_input: dict) -> np.ndarray:
        inputs = super().preprocess(prediction_input)
        return self._preprocessor.preprocess(inputs)

    def postprocess(self, prediction_results: np.ndarray) -> dict:
        return {"predictions": [self._class_names[number] for number in prediction_results]}
