"""Train on iris.csv and write model/model.ubj, XGBoost's own format."""

import csv
from pathlib import Path

import numpy as np
import xgboost
from predictor import IrisPredictor

here = Path(__file__).parent
with (here / "iris.csv").open(newline="") as file:
    rows = list(csv.reader(file))[1:]
instances = np.array([row[:4] for row in rows], dtype=float)
classes = [IrisPredictor.labels.index(row[4]) for row in rows]

options = {"objective": "multi:softprob", "num_class": len(IrisPredictor.labels), "max_depth": 3, "seed": 0}
booster = xgboost.train(options, xgboost.DMatrix(instances, classes), num_boost_round=20)
(here / "model").mkdir(exist_ok=True)
booster.save_model(here / "model" / "model.ubj")
