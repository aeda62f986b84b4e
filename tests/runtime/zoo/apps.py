"""ASGI applications of authors of their own, each named for what it does."""

import asyncio
import logging
import os
import time
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

made_at_import = asyncio.Lock()
log = logging.getLogger("apps")


@asynccontextmanager
async def loads_a_model(app):
    await asyncio.sleep(0.5)
    print("loaded", flush=True)
    yield {"factor": 2}
    print("closed", flush=True)


doubles = FastAPI(lifespan=loads_a_model)


@doubles.get("/health")
def health():
    return {"status": "healthy"}


@doubles.post("/predict")
async def predict(request: Request):
    body = await request.json()
    log.info("asked")
    if "seconds" in body:
        await asyncio.sleep(body["seconds"])
    if "fail" in body:
        raise HTTPException(418, "no tea")
    if "break" in body:
        raise RuntimeError("secret words")
    return {"predictions": [request.state.factor * each for each in body["instances"]]}


def make():
    return doubles


async def plain(scope, receive, send):
    """Knows nothing of lifespans, and has no routes to look at."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    await JSONResponse({"path": scope["path"]})(scope, receive, send)


async def ok(request):
    return JSONResponse({})


no_predict = FastAPI()
no_predict.get("/health")(ok)
only_get = Starlette(routes=[Route("/predict", ok), Route("/health", ok)])
wrapped = GZipMiddleware(
    Starlette(routes=[Mount("/", routes=[Route("/health", ok), Route("/predict", ok, methods=["POST"])])])
)


@asynccontextmanager
async def refuses(app):
    raise RuntimeError("no model there")
    yield


cannot_start = FastAPI(lifespan=refuses)


def fails():
    raise RuntimeError("no model there")


def wsgi(environ, start_response):
    return []


async def tells_its_process(scope, receive, send):
    if scope["type"] == "http":
        time.sleep(0.05)
        await JSONResponse({"process": os.getpid()})(scope, receive, send)


number = 3


class Klass:
    def __init__(self, scope, receive, send):
        pass


def gives_up():
    raise SystemExit("DB_URL is not set")


class AnswersHealthItself:
    """Nobody can tell from outside which routes it has."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/health":
            await JSONResponse({})(scope, receive, send)
        else:
            await self.app(scope, receive, send)


async def _doubled(request):
    return JSONResponse({"predictions": [2 * each for each in (await request.json())["instances"]]})


health_around = AnswersHealthItself(Starlette(routes=[Route("/predict", _doubled, methods=["POST"])]))
