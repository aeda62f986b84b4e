"""Train on iris and write model/: the forest, and beside it the scaler that it was trained behind."""

from pathlib import Path

import skops.io
from preprocess import Scaler
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

folder = Path(__file__).with_name("model")
folder.mkdir(exist_ok=True)

instances, classes = load_iris(return_X_y=True)
scaler = Scaler().fit(instances)
scaler.save(folder)
forest = RandomForestClassifier(random_state=0).fit(scaler.transform(instances), classes)
skops.io.dump(forest, folder / "model.skops")
