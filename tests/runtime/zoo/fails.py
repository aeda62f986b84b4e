"""Predictors and handlers that fail, named for how."""

import sys

from fastapi import HTTPException

from cpr_kit import Handler, Predictor, RequestError


class OnSomeRequests(Predictor):
    def load(self, artifacts_uri):
        pass

    def predict(self, request):
        how = request["instances"][0]
        if how == "secret":
            raise RuntimeError("db password is hunter2")
        if how == "request error":
            raise RequestError("instance 0 is odd", 422)
        if how == "http exception":
            raise HTTPException(418, {"tea": "pot"}, {"X-Pot": "1"})
        if how == "exit":
            sys.exit(7)
        if how == "no json":
            return {"predictions": [object()]}
        return {"predictions": [how]}


class ReturnsNoResponse(Handler):
    def handle(self, request):
        return {"predictions": []}


class LoadRaises(OnSomeRequests):
    def load(self, artifacts_uri):
        raise ValueError("the weights\nhave 3 layers")


class LoadMissesFile(OnSomeRequests):
    def load(self, artifacts_uri):
        open(f"{artifacts_uri}/weights.bin")


class LoadExits(OnSomeRequests):
    def load(self, artifacts_uri):
        sys.exit("no GPU")


class LoadRaisesBehindItsOwnLogging(OnSomeRequests):
    def load(self, artifacts_uri):
        import logging.config

        logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})
        raise ValueError("no weights")
