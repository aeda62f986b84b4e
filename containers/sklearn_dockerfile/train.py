"""Train on iris and write model/model.skops, which the stock predictor finds."""

from pathlib import Path

import skops.io
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

folder = Path(__file__).with_name("model")
folder.mkdir(exist_ok=True)

instances, classes = load_iris(return_X_y=True)
skops.io.dump(RandomForestClassifier(random_state=0).fit(instances, classes), folder / "model.skops")
