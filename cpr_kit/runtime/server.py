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
_DRAIN_S = 60


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
    _Server(app, settings).run(sockets=[listener])


def _listen(settings: Settings) -> socket.socket:
    """Listening comes before loading: Vertex AI's liveness check connects at once, whatever a model's size."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because event loops turn Nagle's algorithm off only for sockets that say they are
    # TCP; left on, it costs 40 ms a request.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.serving.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        raise StartError(
            f"cannot listen on {settings.host}:{settings.serving.port}: {error.strerror}",
            "set AIP_HTTP_PORT to a free port from 1024 to 65535",
        ) from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn, which loads the model as soon as it listens."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._model, self._settings = app.model, settings
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_DRAIN_S,
                server_header=False,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loading = asyncio.create_task(_load(self._model, self._settings))


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
    logger.disabled = False  # a dictConfig of the author's disables loggers that it does not know
    if error.__cause__ is not None or not isinstance(error, CprError):
        logger.error("the model server cannot start", exc_info=error.__cause__ or error)
    reason = str(error) if isinstance(error, CprError) else told(error)
    logger.error("cannot start: %s", " ".join(reason.split()))
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    finally:
        os._exit(1)
