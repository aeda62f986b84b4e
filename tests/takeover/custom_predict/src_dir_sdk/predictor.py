import pickle

import joblib
import numpy as np
from google.cloud.aiplatform.prediction.predictor import Predictor
from google.cloud.aiplatform.utils import prediction_utils
from sklearn.datasets import load_iris


class CprPredictor(Predictor):
    def __init__(self):
        return

    def load(self, artifacts_uri: str) -> None:
        prediction_utils.download_model_artifacts(artifacts_uri)
        with open("preprocessor.pkl", "rb") as file:
            self._preprocessor = pickle.load(file)
        self._class_names = load_iris().target_names
        self._model = joblib.load("model.joblib")

    def predict(self, instances):
        inputs = np.asarray(instances["instances"])
        outputs = self._model.predict(self._preprocessor.preprocess(inputs))
        return {"predictions": [self._class_names[number] for number in outputs]}
