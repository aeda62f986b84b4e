"""Handwritten digits: a picture in, its five likeliest labels out."""

import base64
import io

import numpy as np
from PIL import Image

from cpr_kit import RequestError, SklearnPredictor

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MOST = 5


def pixels(instance):
    """The 64 grey values that the model was trained on, 0 to 16, from `{"bytes_inputs": {"b64": ...}}`."""
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(instance["bytes_inputs"]["b64"], validate=True)))
        return np.asarray(picture.convert("L").resize((8, 8), Image.Resampling.BOX)).ravel() / 255 * 16
    except (KeyError, TypeError) as error:
        raise RequestError('an instance is {"bytes_inputs": {"b64": "..."}}') from error
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise RequestError("bytes_inputs is no picture in base64") from error


class DigitPredictor(SklearnPredictor):
    def preprocess(self, request):
        return np.array([pixels(instance) for instance in request["instances"]]).reshape(-1, 64)

    def predict(self, rows):
        return self._model.predict_proba(rows) if len(rows) else rows

    def postprocess(self, scores):
        best = np.argsort(-scores, axis=1, kind="stable")[:, :MOST]
        probabilities = np.take_along_axis(scores, best, axis=1).round(3)
        rows = zip(best, probabilities, strict=True)
        return {"predictions": [{"labels": [LABELS[n] for n in order], "probabilities": row} for order, row in rows]}
