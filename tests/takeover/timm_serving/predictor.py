"""An image classifier. Its network here is one matrix over mean colours: what is served is beside the point."""

import base64
import binascii
import io
import os

import numpy as np
from fastapi import HTTPException
from google.cloud.aiplatform import prediction as cpr
from smart_open import open as open_anywhere


class TimmPredictor(cpr.predictor.Predictor):
    def load(self, artifacts_uri: str):
        path = os.path.join(os.environ.get("AIP_STORAGE_URI") or ".", "model.npz")
        with open_anywhere(path, "rb") as file:
            self._weights = np.load(io.BytesIO(file.read()))["weights"]
        with open("labels.txt") as file:
            self._labels = file.read().split()

    def preprocess(self, prediction_input: dict):
        if "instances" not in prediction_input:
            raise HTTPException(status_code=400, detail="No instances")
        instances = prediction_input["instances"]
        if not isinstance(instances, list) or not instances:
            raise HTTPException(status_code=400, detail="Instances must be a list with an image")
        return np.stack([self._image(instance) for instance in instances])

    def _image(self, instance):
        if not isinstance(instance, dict) or "b64" not in instance:
            raise HTTPException(status_code=400, detail="An instance has no b64")
        try:
            pixels = base64.b64decode(instance["b64"], validate=True)
        except binascii.Error as error:
            raise HTTPException(status_code=400, detail="An instance is not base64") from error
        return np.frombuffer(pixels, np.uint8).reshape(-1, 3).mean(axis=0)

    def predict(self, instances):
        return instances @ self._weights

    def postprocess(self, prediction_results):
        return {"predictions": [self._labels[number] for number in prediction_results.argmax(axis=1)]}
