from pathlib import Path

import xgboost as xgb
from sklearn.datasets import load_iris

rows, classes = load_iris(return_X_y=True)
booster = xgb.train({"objective": "multi:softmax", "num_class": 3, "nthread": 1}, xgb.DMatrix(rows, classes), 10)
Path("model").mkdir()
booster.save_model("model/model.json")
Path("model/model.json").rename("model/model.bst")
