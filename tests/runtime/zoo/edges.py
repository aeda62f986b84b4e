"""Predictors at the edges of what the short way through the server can do."""

import time

from fastapi import HTTPException

from cpr_kit import Predictor


class Edges(Predictor):
    max_batch_rows = 64

    def load(self, artifacts_uri):
        pass

    def predict(self, request):
        time.sleep(request.get("parameters", {}).get("sleep", 0))
        return {"predictions": list(request["instances"])}

    def postprocess(self, answer):
        what = answer["predictions"][0]
        errors = {
            "status": HTTPException(600, "beyond"),
            "header": HTTPException(418, "tea", {"X-A": "a\r\nX-Evil: 1"}),
            "latin": HTTPException(418, "tea", {"X-A": "\u20ac"}),
            "framing": HTTPException(418, "tea", {"Content-Length": "1", "Transfer-Encoding": "chunked"}),
            "empty": HTTPException(204),
            "detail": HTTPException(418, object()),
        }
        if what in errors:
            raise errors[what]
        return answer


class ChangesItsInput(Predictor):
    max_batch_rows = 64

    def load(self, artifacts_uri):
        pass

    def predict(self, request):
        time.sleep(request.get("parameters", {}).get("sleep", 0))
        return {"predictions": [row.pop("id") + row["n"] for row in request["instances"]]}


class StreamsSlowly(Predictor):
    def load(self, artifacts_uri):
        pass

    def predict(self, request):
        def pieces():
            for number in range(request["count"]):
                time.sleep(0.01)
                yield number

        return pieces()
