"""The process: read the environment, listen, load the model, serve, and end with the reason when that fails."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import uvicorn

from cpr_kit.errors import CprError, StartError
from cpr_kit.runtime import logs
from cpr_kit.runtime.app import App
from cpr_kit.runtime.importer import told
from cpr_kit.runtime.model import Model
from cpr_kit.runtime.settings import Settings

logger = logging.getLogger("cpr_kit")

_BACKLOG = 2048
# Longer than the 60 s after which Google's front ends drop an idle connection, so that they close it, not we.
_KEEP_ALIVE_S = 75


def main(environ: Mapping[str, str] = os.environ) -> None:
    """Serve until SIGTERM or SIGINT. A start that fails ends the process with exit code 1 and its reason last."""
    logs.configure()
    try:
        settings = Settings.from_environ(environ)
    except CprError as error:
        _end(error)
    _run(App(Model.from_settings(settings), settings.serving), settings)


class ModelServer:
    """For an entry point of your own: serves a handler that you made. Host, port and routes are the environment's.

    >>> ModelServer(PredictionHandler(os.environ["AIP_STORAGE_URI"], predictor=IrisPredictor)).start()
    """

    def __init__(self, handler: Any, environ: Mapping[str, str] = os.environ) -> None:
        self._settings = Settings.from_environ(environ)
        serving = self._settings.serving
        self.http_port = serving.port
        self.health_route = serving.health_route
        self.predict_route = serving.predict_route
        self.app = App(Model(lambda: handler), serving)

    def start(self) -> None:
        """Serve until SIGTERM or SIGINT; does not return."""
        if not logging.getLogger().handlers:
            logs.configure()
        _run(self.app, self._settings)


def _run(app: App, settings: Settings) -> None:
    try:
        listener = _listen(settings)
    except CprError as error:
        _end(error)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains on these and then raises them again for whoever was there before it: this, so that a
        # server that was asked to stop ends with exit code 0.
        signal.signal(number, lambda *_: sys.exit(0))
    asyncio.run(_serve(app, settings, listener))


def _listen(settings: Settings) -> socket.socket:
    """Listening comes before loading: Vertex AI's liveness check connects at once, whatever a model's size."""
    try:
        return socket.create_server((settings.host, settings.serving.port), backlog=_BACKLOG)
    except OSError as error:
        raise StartError(
            f"cannot listen on {settings.host}:{settings.serving.port}: {error.strerror}",
            "set AIP_HTTP_PORT to a free port from 1024 to 65535",
        ) from error


async def _serve(app: App, settings: Settings, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=_KEEP_ALIVE_S, server_header=False
    )
    loading = asyncio.create_task(_load(app.model, settings))
    await uvicorn.Server(config).serve(sockets=[listener])
    loading.cancel()


async def _load(model: Model, settings: Settings) -> None:
    began = time.monotonic()
    try:
        await model.load()
    except Exception as error:  # noqa: BLE001  the author's code may raise anything
        _end(error)
    logger.info(
        "the model is ready after %.2f s: POST %s, GET %s on port %d",
        time.monotonic() - began,
        settings.serving.predict_route,
        settings.serving.health_route,
        settings.serving.port,
    )


def _end(error: Exception) -> NoReturn:
    """Log the traceback, then cause and remedy as the last line, and end now whatever threads are running."""
    if error.__cause__ is not None or not isinstance(error, CprError):
        logger.error("the model server cannot start", exc_info=error.__cause__ or error)
    reason = str(error) if isinstance(error, CprError) else told(error)
    logger.error("cannot start: %s", " ".join(reason.split()))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
