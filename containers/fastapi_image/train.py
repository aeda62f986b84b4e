"""Train on the digits of scikit-learn as they come out of a JPEG, and write model/model.skops.

The picture of requests/a_seven.json is one of those that are held back here.
"""

import base64
import io
from pathlib import Path

import numpy as np
import skops.io
from PIL import Image
from predictor import pixels
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def instance(image):
    """A digit of 8 by 8 as a JPEG of 32 by 32, the way a client sends it."""
    file = io.BytesIO()
    picture = Image.fromarray((image / 16 * 255).astype(np.uint8)).resize((32, 32), Image.Resampling.NEAREST)
    picture.save(file, "JPEG", quality=95)
    return {"bytes_inputs": {"b64": base64.b64encode(file.getvalue()).decode()}}


if __name__ == "__main__":
    digits = load_digits()
    instances = [instance(image) for image in digits.images]
    rows = np.array([pixels(each) for each in instances])
    places = np.arange(len(rows))
    learned, held = train_test_split(places, test_size=0.2, random_state=0, stratify=digits.target)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(rows[learned], digits.target[learned])
    print(f"accuracy on {len(held)} pictures: {model.score(rows[held], digits.target[held]):.3f}")
    folder = Path(__file__).with_name("model")
    folder.mkdir(exist_ok=True)
    skops.io.dump(model, folder / "model.skops")
