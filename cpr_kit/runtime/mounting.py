"""`create_app`: a predictor as an ASGI application, to be mounted in a FastAPI or Starlette one of the author's own.

Starlette tells mounted applications nothing of the server's start, and a server listens once the module is imported.
So the model is loaded in a thread from the moment that the application is made, and health is 503 until it is there.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from cpr_kit.errors import StartError
from cpr_kit.runtime import metrics, startup
from cpr_kit.runtime.app import App
from cpr_kit.runtime.handler import Handler, PredictionHandler
from cpr_kit.runtime.model import Model, made_handler
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.workers import ending

_LOOK_S = 0.01
_made: weakref.WeakSet[ServingApp] = weakref.WeakSet()
_hosted = threading.Event()


def create_app(
    predictor: Any,
    handler: Any = None,
    *,
    artifacts: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ServingApp:
    """Serve `predictor` on the routes of AIP_PREDICT_ROUTE and AIP_HEALTH_ROUTE, the kit's own where these are not set.

    Both are classes; `handler` is the kit's PredictionHandler where none is given, and one of your own may do without a
    predictor. The model comes from AIP_STORAGE_URI, and from `artifacts`, a folder or a gs:// URI, where that is empty.

        app = FastAPI()
        app.mount("/", create_app(IrisPredictor))  # behind the routes of your own
    """
    for kind, given in (("predictor", predictor), ("handler", handler)):
        if given is not None and not isinstance(given, type):
            name = type(given).__name__
            raise StartError(f"create_app got an object as its {kind}", f"give it the class: create_app({name})")
    if predictor is None and handler is None:
        raise StartError("create_app got neither a predictor nor a handler", "write create_app(YourPredictor)")
    settings = Settings.from_environ(environ)
    if artifacts is not None and not environ.get("AIP_STORAGE_URI"):
        settings = replace(settings, serving=replace(settings.serving, storage_uri=os.fspath(artifacts)))
    maker = _Maker(handler or PredictionHandler, predictor, settings)
    return ServingApp(maker, settings, module=sys._getframe(1).f_globals.get("__name__", ""))  # noqa: SLF001


class _Maker:
    """Makes the handler, and so loads the model. Raises StartError."""

    def __init__(self, handler: type[Any], predictor: type[Any] | None, settings: Settings) -> None:
        self._handler, self._predictor, self._uri = handler, predictor, settings.serving.storage_uri

    def __call__(self) -> Handler:
        handler: Handler = made_handler(self._handler, self._predictor, self._uri)
        return handler


class ServingApp:
    """Answers by whole paths, wherever it is mounted: Vertex AI asks for the routes that the model was uploaded with.

    `routes` are for those who would rather not mount: `FastAPI(routes=create_app(IrisPredictor).routes)`.
    """

    def __init__(self, make: Callable[[], Any], settings: Settings, *, module: str = "") -> None:
        self.settings = settings
        self._make = make
        self._module = module
        self._beside = Router()
        self._paths = [settings.serving.health_route, settings.serving.predict_route]
        if settings.metrics:
            self._paths.append("/metrics")
        self.routes: list[BaseRoute] = [Route(path, self) for path in self._paths]
        self._begin()
        _made.add(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._process != os.getpid():
            self._begin()  # forked, as by `gunicorn --preload`: no thread came along
        if scope["type"] == "http" and scope["path"] in self._paths:
            await self._app(scope, receive, send)
        else:
            await self._beside(scope, receive, send)  # the events of a lifespan, and 404

    @property
    def model(self) -> Model:
        return self._app.model

    def wait(self, timeout_s: float | None = None) -> None:
        """Until the model is loaded. Raises StartError when it cannot be, and TimeoutError after `timeout_s`."""
        self._hurry.set()
        self._loaded.result(timeout_s)

    async def loaded(self) -> None:
        """As `wait`, on an event loop."""
        self._hurry.set()
        await asyncio.shield(asyncio.wrap_future(self._loaded))

    def _begin(self) -> None:
        self._process = os.getpid()
        self._hurry = threading.Event()
        self._loaded: Future[None] = Future()
        counted = metrics.make(asked=self.settings.metrics)
        self._app = App(Model(self._make, self.settings, counted), self.settings)
        # A daemon: a load that hangs must not keep a finished server alive.
        threading.Thread(target=self._load, name="load", daemon=True).start()

    def _load(self) -> None:
        self._await_import()
        try:
            asyncio.run(self._app.model.load())
        except BaseException as error:  # noqa: BLE001  the author's code may raise anything
            self._failed(error)
            return
        self._loaded.set_result(None)
        if not _hosted.is_set():
            serving = self.settings.serving
            startup.report(f"POST {serving.predict_route}, GET {serving.health_route}")

    def _await_import(self) -> None:
        """A pickle may need what the author's module has further down, and two threads that import may meet halfway."""
        spec = getattr(sys.modules.get(self._module), "__spec__", None)
        while getattr(spec, "_initializing", False) and not self._hurry.wait(_LOOK_S):
            pass

    def _failed(self, error: BaseException) -> None:
        if not _hosted.is_set():
            ending.say(f"the model cannot be loaded: {ending.explain(error)}")
            if os.environ.get("AIP_MODE"):
                # Vertex AI and the harness set it. A container that can never be healthy is best seen ending.
                ending.leave_at_once(1)
        self._loaded.set_exception(error)


def host() -> None:
    """For the kit's own server, which asks for the outcome of each load, and ends the process when one fails."""
    _hosted.set()


async def loaded() -> None:
    """Until the models of all applications that were made here are loaded. Raises StartError."""
    for each in list(_made):
        await each.loaded()
