"""The predictor alone, and as Vertex AI would serve it: in a container, or in a process where no engine answers."""

import json
from pathlib import Path

import preprocess  # noqa: F401  the class that wrote model/preprocessor.npz must be known
from predictor import IrisPredictor

HERE = Path(__file__).parent
REQUEST = json.loads((HERE / "requests" / "two_rows.json").read_text())
EXPECTED = json.loads((HERE / "requests" / "two_rows.expected.json").read_text())


def test_the_predictor_alone():
    predictor = IrisPredictor()
    predictor.load(str(HERE / "model"))

    answer = predictor.postprocess(predictor.predict(predictor.preprocess(REQUEST)))

    assert answer == EXPECTED


def test_the_predictor_as_it_is_served(local_endpoint):
    endpoint = local_endpoint(HERE)

    response = endpoint.predict(REQUEST)

    assert (response.status_code, response.json()) == (200, EXPECTED)
