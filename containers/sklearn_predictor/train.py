"""Train on iris and write model/model.joblib: a pipeline, so that the scaler travels inside the model."""

from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

folder = Path(__file__).with_name("model")
folder.mkdir(exist_ok=True)

instances, classes = load_iris(return_X_y=True)
model = make_pipeline(StandardScaler(), RandomForestClassifier(random_state=0)).fit(instances, classes)
joblib.dump(model, folder / "model.joblib")
