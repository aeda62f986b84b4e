"""Predictors and handlers that work, named for what they do."""

import asyncio
import threading
import time

import numpy as np
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from cpr_kit import Handler, PredictionHandler, Predictor, RequestError, Serializer


class Doubles(Predictor):
    def load(self, artifacts_uri):
        self.uri = artifacts_uri

    def predict(self, request):
        return {"predictions": [2 * x for x in request["instances"]]}


class LoadsForOneSecond(Doubles):
    def load(self, artifacts_uri):
        time.sleep(1)


class Sleeps(Doubles):
    def predict(self, request):
        time.sleep(request["seconds"])
        return {"predictions": [threading.current_thread().name]}


class Spins(Doubles):
    def predict(self, request):
        end = time.monotonic() + request["seconds"]
        while time.monotonic() < end:
            pass
        return {"predictions": [0]}


class PredictsAsync(Doubles):
    async def predict(self, request):
        await asyncio.sleep(request.get("seconds", 0))
        return {"predictions": request["instances"]}


class ReturnsNumpy(Doubles):
    def predict(self, request):
        strided = np.arange(6).reshape(2, 3).T
        return {"predictions": [np.float32(1.5), np.int64(2), np.bool_(True), strided, np.array(["a"])], 3: {np.nan}}


class ToleratesNoParameters(Doubles):
    def predict(self, request):
        try:
            request["parameters"]
        except KeyError:
            return {"predictions": ["none"]}


class SyncHandler(Handler):
    def handle(self, request):
        time.sleep(float(request.query_params.get("seconds", 0)))
        return PlainTextResponse("sync")


class ReadsTheBody(Handler):
    async def handle(self, request):
        body = await request.body()
        return Response(b'{"predictions": [%d]}' % len(body))


class Streams(Handler):
    async def handle(self, request):
        async def rows():
            for number in range(3):
                await asyncio.sleep(0)
                yield f"{number}\n"

        return StreamingResponse(rows(), media_type="text/plain")


class BreaksMidway(Handler):
    async def handle(self, request):
        async def rows():
            yield "first\n"
            raise RuntimeError("password is hunter2")

        return StreamingResponse(rows(), media_type="text/plain")


class Text(Serializer):
    media_type = "text/plain"

    @staticmethod
    def deserialize(data, content_type):
        return {"instances": [float(x) for x in data.split()]}

    @staticmethod
    def serialize(prediction, accept):
        return " ".join(str(x) for x in prediction["predictions"])


class TextHandler(PredictionHandler):
    serializer = Text


class RunsABackgroundTask(Handler):
    done = threading.Event()

    def handle(self, request):
        from starlette.background import BackgroundTask

        return PlainTextResponse(str(self.done.is_set()), background=BackgroundTask(self.done.set))


class StreamsForEver(Handler):
    async def handle(self, request):
        async def rows():
            while True:
                await asyncio.sleep(0.01)
                yield "row\n"

        return StreamingResponse(rows(), media_type="text/plain")
