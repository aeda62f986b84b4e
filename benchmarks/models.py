"""The models and the requests of the benchmark, written into a folder: `python models.py FOLDER`.

Runs in the kit's environment, which has scikit-learn and skl2onnx. Every server loads the same files. Requests
are JSON with "instances", the same for protocol V2 (NAME.v2.json), and npy for the widest.
"""

import json
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(root: Path) -> None:
    iris, species = load_iris(return_X_y=True)
    save(root / "iris", make_pipeline(StandardScaler(), LogisticRegression()).fit(iris, species), iris[76:77])
    random = np.random.default_rng(0)
    pixels, digits = random.normal(size=(2000, 784)), random.integers(0, 10, 2000)
    save(root / "wide", make_pipeline(StandardScaler(), LogisticRegression()).fit(pixels, digits), pixels[:32])
    np.save(root / "wide" / "body.npy", pixels[:32])
    rows, classes = make_classification(5000, 20, n_informative=8, n_classes=3, random_state=0)
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(100, random_state=0)).fit(rows, classes)
    save(root / "forest", forest, rows[:1])
    export(root / "forest", forest, rows[:1])


def save(folder: Path, model: Any, rows: Any) -> None:
    folder.mkdir(parents=True)
    joblib.dump(model, folder / "model.joblib")
    tensor = {"name": "predict", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    (folder / "body.json").write_text(json.dumps({"instances": rows.tolist()}))
    (folder / "body.v2.json").write_text(json.dumps({"inputs": [tensor]}))
    (folder / "expected.json").write_text(json.dumps(model.predict(rows).tolist()))


def export(folder: Path, model: Any, rows: Any) -> None:
    from skl2onnx import to_onnx

    graph = to_onnx(model, rows.astype(np.float32), options={"zipmap": False})
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(graph.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
