import os
import pickle

import joblib
import numpy as np
from fastapi import FastAPI, Request
from google.cloud import storage
from sklearn.datasets import load_iris

app = FastAPI()
client = storage.Client()

for name in ("preprocessor.pkl", "model.joblib"):
    with open(name, "wb") as file:
        client.download_blob_to_file(f"{os.environ['AIP_STORAGE_URI']}/{name}", file)

with open("preprocessor.pkl", "rb") as file:
    preprocessor = pickle.load(file)

class_names = load_iris().target_names
model = joblib.load("model.joblib")


@app.get(os.environ["AIP_HEALTH_ROUTE"], status_code=200)
def health():
    return {}


@app.post(os.environ["AIP_PREDICT_ROUTE"])
async def predict(request: Request):
    body = await request.json()
    inputs = np.asarray(body["instances"])
    outputs = model.predict(preprocessor.preprocess(inputs))
    return {"predictions": [class_names[class_num] for class_num in outputs]}
