"""Iris by named features, each answer with its probability. The routes are the application's own affair."""

import os
from contextlib import asynccontextmanager

import skops.io
from fastapi import FastAPI, Request
from pydantic import BaseModel

from cpr_kit.runtime import artifacts

LABELS = ("setosa", "versicolor", "virginica")


class Flower(BaseModel):
    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float


class Flowers(BaseModel):
    instances: list[Flower]


@asynccontextmanager
async def lifespan(app):
    # Vertex AI leaves AIP_STORAGE_URI empty for a model without artifacts; then the one in the image is served.
    folder = artifacts.fetch(os.environ.get("AIP_STORAGE_URI") or "model")
    yield {"model": skops.io.load(folder / "model.skops")}


app = FastAPI(lifespan=lifespan)


@app.get(os.environ.get("AIP_HEALTH_ROUTE", "/health"))
def health():
    return {"status": "healthy"}


@app.post(os.environ.get("AIP_PREDICT_ROUTE", "/predict"))
def predict(flowers: Flowers, request: Request):
    rows = [list(flower.model_dump().values()) for flower in flowers.instances]
    scores = request.state.model.predict_proba(rows) if rows else []
    best = [max(zip(row, LABELS, strict=True)) for row in scores]
    return {"predictions": [{"class": label, "probability": round(float(score), 3)} for score, label in best]}
