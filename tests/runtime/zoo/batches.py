"""Predictors whose requests are joined, streamed, or late, named for what they do."""

import asyncio
import time

import numpy as np

from cpr_kit import Predictor, RequestError


class Joins(Predictor):
    """Answers each row with the number of rows that shared its call. `sleep` of the parameters makes others wait."""

    max_batch_rows = 64

    def load(self, artifacts_uri):
        pass

    def predict(self, request):
        time.sleep(request.get("parameters", {}).get("sleep", 0))
        if "bad" in request["instances"]:
            raise RequestError("bad rows are refused", 422)
        return {"predictions": [len(request["instances"])] * len(request["instances"])}


class JoinsArrays(Joins):
    wants_array = True

    def preprocess(self, request):
        return np.asarray(request["instances"])

    def predict(self, array):
        time.sleep(0.05)
        return array.sum(axis=1)

    def postprocess(self, sums):
        return {"predictions": sums}


class WaitsForCompany(Joins):
    max_batch_delay = 1.0


class Notes(Predictor):
    """Writes what happens to it into the log."""

    def load(self, artifacts_uri):
        pass

    async def predict(self, request):
        try:
            await asyncio.sleep(request["seconds"])
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise
        return {"predictions": []}


class Works(Predictor):
    """Takes its time, one request after the other."""

    def load(self, artifacts_uri):
        self.calls = 0

    def predict(self, request):
        self.calls += 1
        time.sleep(request.get("seconds", 0))
        return {"predictions": [self.calls]}


class Streams(Predictor):
    def load(self, artifacts_uri):
        pass

    def predict(self, request):
        try:
            for number in range(request["count"]):
                if number == request.get("fails_at"):
                    raise RuntimeError("password is hunter2")
                time.sleep(request.get("pause", 0))
                yield {"n": number}
        finally:
            print("closed", flush=True)

    def postprocess(self, piece):
        return {"piece": piece["n"]}


class StreamsAsync(Streams):
    async def predict(self, request):
        try:
            for number in range(request["count"]):
                if number == request.get("fails_at"):
                    raise RequestError("no such piece", 422)
                await asyncio.sleep(request.get("pause", 0))
                yield f"{number} "
        finally:
            print("closed", flush=True)

    def postprocess(self, piece):
        return piece


class CountsItsCalls(Predictor):
    def load(self, artifacts_uri):
        self.calls = 0

    def predict(self, request):
        self.calls += 1
        if request["instances"] == ["broken"]:
            raise ValueError("broken")
        return {"predictions": [self.calls]}
