"""`cpr convert` as a user calls it."""

import json

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cpr_kit import SklearnPredictor

X, Y = load_iris(return_X_y=True)


@pytest.fixture
def folder(tmp_path):
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    skops.io.dump(model, tmp_path / "iris.skops")
    joblib.dump(RandomForestClassifier(20, random_state=0).fit(X, Y), tmp_path / "forest.joblib")
    np.savetxt(tmp_path / "rows.csv", X, delimiter=",", header="a,b,c,d", comments="")
    return tmp_path


def test_a_model_is_converted_proved_and_served(cpr, folder):
    done = cpr("convert", "iris.skops", "--data", "rows.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Pipeline, 150 rows, float64 graph" in done.stdout
    assert "model.onnx written: it agrees on every row" in done.stdout
    assert "in one process, without a server" in done.stdout
    predictor = SklearnPredictor()
    predictor.load(str(folder))
    expected = skops.io.load(folder / "iris.skops").predict(X)
    assert np.array_equal(predictor.predict(predictor.preprocess({"instances": X.tolist()})), expected)


def test_json_tells_all_of_it(cpr, folder):
    done = cpr("convert", folder / "iris.skops", "--data", folder / "rows.csv", "-o", folder / "x.onnx", "--json")
    facts = json.loads(done.stdout)
    assert (facts["agrees"], facts["rows"], facts["flips"]) == (True, 150, 0)
    assert facts["written"] == str(folder / "x.onnx")
    assert {item["dtype"] for item in facts["attempts"]} == {"float64", "float32"}
    assert [item["rows"] for item in facts["in_process_speed"]] == [1, 100]


def test_what_does_not_agree_is_shown_and_not_written_unless_accepted(cpr, folder):
    # No forest agrees to 15 digits: its graph adds probabilities in 32 bits.
    ask = ("convert", "forest.joblib", "--data", "rows.csv", "--trusted", "--tolerance", "1e-15")
    done = cpr(*ask, cwd=folder)
    assert done.returncode == 1
    assert "worst rows" in done.stdout
    assert "nothing written" in done.stdout
    assert not (folder / "model.onnx").exists()

    accepted = cpr(*ask, "--accept", cwd=folder)
    assert accepted.returncode == 0
    assert "though it does not agree" in accepted.stdout
    assert (folder / "model.onnx").exists()


def test_a_skops_file_in_the_way_is_named(cpr, folder):
    (folder / "iris.skops").rename(folder / "model.skops")
    done = cpr("convert", "model.skops", "--data", "rows.csv", cwd=folder)
    assert done.returncode == 0
    assert "serves model.skops before model.onnx" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("forest.joblib", "--data", "rows.csv"), "forest.joblib is a pickle.*--trusted"),
        (("iris.skops",), "Missing option '--data'"),
        (("none.skops", "--data", "rows.csv"), "does not exist"),
        (("rows.csv", "--data", "rows.csv", "--trusted"), "rows.csv cannot be loaded"),
        (("array.joblib", "--data", "rows.csv", "--trusted"), "holds a ndarray, which has no predict"),
        (("iris.skops", "--data", "text.csv"), "text.csv line 1, column 2"),
    ],
)
def test_wrong_usage_says_what_to_do(cpr, folder, arguments, message):
    import re

    joblib.dump(X, folder / "array.joblib")
    (folder / "text.csv").write_text("1,red,2,3\n")
    done = cpr("convert", *arguments, cwd=folder)
    assert done.returncode == 2
    assert re.search(message, done.stderr)
