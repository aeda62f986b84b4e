"""Train on iris and write model/model.skops."""

from pathlib import Path

import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

folder = Path(__file__).with_name("model")
folder.mkdir(exist_ok=True)

instances, classes = load_iris(return_X_y=True)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(instances, classes)
skops.io.dump(model, folder / "model.skops")
