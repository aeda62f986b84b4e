"""A model loaded before fork() answers in the children: real processes, each library, however many threads are set."""

import json
import os
import subprocess
import sys

import catboost
import lightgbm
import numpy as np
import pytest
import skops.io
import xgboost
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cpr_kit
from cpr_kit.convert import sklearn as conversion

X, Y = load_iris(return_X_y=True)

FORKS = """
import json, os, sys, threading, time
import numpy as np
import cpr_kit

name, folder, threads, patience = sys.argv[1:]


class Multiplies(cpr_kit.Predictor):
    # numpy alone, with matrices large enough for all of BLAS's threads
    fork_safe = True

    def load(self, artifacts_uri):
        self.weights = np.ones((4, 3000))

    def preprocess(self, request):
        return np.asarray(request["instances"])

    def predict(self, rows):
        return (rows @ self.weights @ self.weights.T)[:, :2]


kind = Multiplies if name == "Multiplies" else getattr(cpr_kit, name)
predictor = type("Served", (kind,), {} if threads == "default" else {"threads": json.loads(threads)})()
predictor.load(folder)
rows = predictor.preprocess({"instances": np.load(folder + "/rows.npy").tolist()})
expected = np.asarray(predictor.predict(rows)).tolist()  # the parent predicts before it forks, too


def ask(answers):
    answers += [np.asarray(predictor.predict(rows)).tolist() == expected for _ in range(20)]


def child():
    here, there = [], []
    ask(here)  # in the thread that forked, and in one of its own
    thread = threading.Thread(target=ask, args=(there,))
    thread.start()
    thread.join()
    os._exit(0 if len(here + there) == 40 and all(here + there) else 1)


children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(2)
    children.append(pid)
ends, deadline = [], time.monotonic() + float(patience)
for pid in children:
    done, status = 0, 0
    while not done and time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
    if not done:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    ends.append(os.waitstatus_to_exitcode(status) if done else "hangs")
print(json.dumps({"safe": type(predictor).fork_safe, "ends": ends}))
os._exit(0)
"""


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Folder of each model file, written by this process and loaded by others."""
    root = tmp_path_factory.mktemp("models")

    def folder(name):
        (root / name).mkdir()
        np.save(root / name / "rows.npy", X)
        return root / name

    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    skops.io.dump(linear, folder("linear") / "model.skops")
    skops.io.dump(RandomForestClassifier(20, n_jobs=4, random_state=0).fit(X, Y), folder("forest") / "model.skops")
    skops.io.dump(HistGradientBoostingClassifier(max_iter=20).fit(X, Y), folder("histogram") / "model.skops")
    (folder("onnx") / "model.onnx").write_bytes(conversion.convert(linear, X).graph)
    xgboost.train({"objective": "multi:softprob", "num_class": 3}, xgboost.DMatrix(X, Y), 20).save_model(
        folder("xgboost") / "model.ubj"
    )
    lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1}, lightgbm.Dataset(X, Y), 20).save_model(
        folder("lightgbm") / "model.txt"
    )
    catboost.CatBoostClassifier(20, verbose=False, allow_writing_files=False).fit(X, Y).save_model(
        folder("catboost") / "model.cbm"
    )
    return root


def forked(name, folder, *, threads="default", patience=60, **environment):
    command = [sys.executable, "-c", FORKS, name, str(folder), str(threads), str(patience)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=patience + 120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


KINDS = [
    ("Multiplies", "linear"),
    ("SklearnPredictor", "linear"),
    ("SklearnPredictor", "forest"),
    ("SklearnPredictor", "histogram"),
    ("SklearnPredictor", "onnx"),
    ("OnnxPredictor", "onnx"),
    ("XgboostPredictor", "xgboost"),
    ("LightgbmPredictor", "lightgbm"),
    ("CatboostPredictor", "catboost"),
]


@pytest.mark.parametrize(("name", "model"), KINDS)
def test_children_answer_though_many_threads_are_set(saved, name, model):
    many = {f"{library}_NUM_THREADS": "8" for library in ("OMP", "OPENBLAS", "MKL")}
    found = forked(name, saved / model, **many)
    assert found == {"safe": True, "ends": [0, 0]}


@pytest.mark.parametrize(
    ("name", "model"),
    [("SklearnPredictor", "histogram"), ("XgboostPredictor", "xgboost"), ("LightgbmPredictor", "lightgbm")],
)
def test_why_more_threads_are_not_fork_safe(saved, name, model):
    """OpenMP's pool is lost in a fork. Should this test fail, the libraries have learned to make it anew."""
    found = forked(name, saved / model, threads=4, patience=4, OMP_NUM_THREADS="4")
    assert found == {"safe": False, "ends": ["hangs", "hangs"]}


def test_what_an_author_writes_decides_anew():
    class OwnLoad(cpr_kit.SklearnPredictor):
        def load(self, artifacts_uri):
            pass

    class OwnPredict(cpr_kit.SklearnPredictor):
        def predict(self, instances):
            return instances

    class Says(OwnPredict):
        max_batch_rows = 7
        threads = 4

    class Postprocesses(cpr_kit.XgboostPredictor):
        def postprocess(self, prediction_results):
            return prediction_results

    def of(cls):
        return cls.fork_safe, cls.max_batch_rows

    assert of(OwnLoad) == (None, 1024)
    assert of(OwnPredict) == (True, None)
    assert of(Says) == (False, 7)
    assert of(Postprocesses) == (True, 1024)
