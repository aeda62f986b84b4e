"""Run inside the folder that holds preprocess.py, so that the scaler is pickled as the module `preprocess`."""

import pickle
from pathlib import Path

import joblib
from preprocess import MySimpleScaler
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

rows, classes = load_iris(return_X_y=True)
scaler = MySimpleScaler()
forest = RandomForestClassifier(random_state=0).fit(scaler.preprocess(rows), classes)
folder = Path("../model")
folder.mkdir()
joblib.dump(forest, folder / "model.joblib")
with (folder / "preprocessor.pkl").open("wb") as file:
    pickle.dump(scaler, file)
