import pickle

import numpy as np
from google.cloud import storage
from google.cloud.aiplatform.prediction.sklearn.predictor import SklearnPredictor
from sklearn.datasets import load_iris


class CprPredictor(SklearnPredictor):
    def __init__(self):
        return

    def load(self, gcs_artifacts_uri: str):
        super().load(gcs_artifacts_uri)
        client = storage.Client()
        with open("preprocessor.pkl", "wb") as preprocessor:
            client.download_blob_to_file(f"{gcs_artifacts_uri}/preprocessor.pkl", preprocessor)
        with open("preprocessor.pkl", "rb") as file:
            self._preprocessor = pickle.load(file)
        self._class_names = load_iris().target_names

    def preprocess(self, prediction_input):
        inputs = super().preprocess(prediction_input)
        return self._preprocessor.preprocess(inputs)

    def postprocess(self, prediction_results: np.ndarray) -> dict:
        return {"predictions": [self._class_names[number] for number in prediction_results]}
