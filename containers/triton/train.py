"""Write models/iris/1/weights.json: a linear model of iris measurements (needs scikit-learn)."""

import json
import sys
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("models")
    features, species = load_iris(return_X_y=True)
    model = LinearDiscriminantAnalysis().fit(features, species)
    weights = {"slope": model.coef_.tolist(), "intercept": model.intercept_.tolist()}
    (target / "iris" / "1" / "weights.json").write_text(json.dumps(weights))
