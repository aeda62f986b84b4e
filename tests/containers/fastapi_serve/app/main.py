import os

import joblib
from fastapi import FastAPI, Request

app = FastAPI()
model = joblib.load("/model/model.joblib")


@app.get(os.environ["AIP_HEALTH_ROUTE"], status_code=200)
def health():
    return {"status": "healthy"}


@app.post(os.environ["AIP_PREDICT_ROUTE"])
async def predict(request: Request):
    body = await request.json()
    [instance["bytes_inputs"]["b64"] for instance in body["instances"]]
    return {"test": "to-be-finished"}
