"""The routes of Vertex AI are the mounted predictor's, so that they are those of the environment, here and there."""

from fastapi import FastAPI
from predictor import LABELS, DigitPredictor

from cpr_kit import create_app

app = FastAPI()


@app.get("/labels")
def labels():
    return LABELS


app.mount("/", create_app(DigitPredictor))
