"""The process: read the environment, listen, start workers, and end with the reason when that fails."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from cpr_kit.errors import CprError, StartError
from cpr_kit.runtime import logs, metrics
from cpr_kit.runtime.settings import Settings
from cpr_kit.runtime.workers import ending, serving
from cpr_kit.runtime.workers.limits import Limits

logger = logging.getLogger("cpr_kit")

_BACKLOG = 2048
# Set by this process for itself, when it starts anew: the socket it already listens on.
_LISTENER = "cpr_kit_listener"


def main(environ: Mapping[str, str] = os.environ, *, limits: Limits | None = None) -> None:
    """Serve until SIGTERM or SIGINT. A start that fails ends the process with exit code 1 and its reason last."""
    _end_when_asked()
    logs.configure()
    try:
        settings = Settings.from_environ(environ)
        limits = limits or _limits(settings, environ)
        inherited = os.environ.pop(_LISTENER, "")
        listener = _inherit(int(inherited)) if inherited else _listen(settings)
        _serve(listener, settings, limits, share=_may_share(settings, limits) and not inherited)
    except CprError as error:
        _end(error)


class ModelServer:
    """For an entry point of your own: serves a handler that you made, in this process. Host, port and routes are the
    environment's.

    >>> ModelServer(PredictionHandler(os.environ["AIP_STORAGE_URI"], predictor=IrisPredictor)).start()
    """

    def __init__(self, handler: Any, environ: Mapping[str, str] = os.environ) -> None:
        self._settings = Settings.from_environ(environ)
        serves = self._settings.serving
        self.http_port = serves.port
        self.health_route = serves.health_route
        self.predict_route = serves.predict_route
        counted = metrics.make(asked=self._settings.metrics)
        self.app = serving.application(lambda: handler, self._settings, counted)

    def start(self) -> None:
        """Serve until SIGTERM or SIGINT; does not return."""
        if not logging.getLogger().handlers:
            logs.configure()
        try:
            listener = _listen(self._settings)
        except CprError as error:
            _end(error)
        server = serving.Server(self.app, self._settings, limits=Limits(), post=serving.Post())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.handle_exit)
        server.run([listener])
        sys.exit(0)


def _limits(settings: Settings, environ: Mapping[str, str]) -> Limits:
    limits = Limits.from_environ(environ).for_requests(settings.request_timeout)
    return limits if settings.app is None else limits.for_application(environ, settings.request_timeout)


def _may_share(settings: Settings, limits: Limits) -> bool:
    """An application of the author's own has an event loop from the start, and no loop survives a fork."""
    return limits.workers > 1 and settings.app is None


def _serve(listener: socket.socket, settings: Settings, limits: Limits, *, share: bool) -> NoReturn:
    # Once for all: what is loaded here, the processes below need not load.
    serving.preload()
    from cpr_kit.runtime.workers.supervisor import supervise

    handler = _shared(listener, settings) if share else None
    supervise(listener, settings, limits, handler=handler)


def _shared(listener: socket.socket, settings: Settings) -> Any:
    """The model, loaded once for all workers; None where each must load its own. Raises StartError."""
    from cpr_kit.runtime.workers import sharing
    from cpr_kit.runtime.workers.greeter import Greeter

    before = dict(os.environ), Path.cwd()
    greeter = Greeter(listener, settings)
    _end_when_asked(greeter.dismiss)
    try:
        outcome = sharing.load(settings)
    finally:
        greeter.dismiss()
    if outcome.reason:
        logger.info("each worker loads the model for itself: %s", outcome.reason)
    if outcome.spoilt:
        _start_anew(listener, *before)
    return outcome.handler


def _start_anew(listener: socket.socket, environ: Mapping[str, str], folder: Path) -> NoReturn:
    """Become a fresh process on the same socket, in which each worker loads for itself.

    This one cannot be forked any more, and what a load left behind in it cannot be undone.
    """
    os.chdir(folder)
    listener.set_inheritable(True)
    ending.flush()
    command = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, command, {**environ, _LISTENER: str(listener.fileno())})  # noqa: S606  no shell


def _inherit(descriptor: int) -> socket.socket:
    listener = socket.socket(fileno=descriptor)
    listener.set_inheritable(False)
    return listener


def _end_when_asked(first: Callable[[], object] = lambda: None) -> None:
    """Until there is a server to drain, a request to stop is a reason to end at once, and no failure."""

    def end(*_: object) -> None:
        first()
        ending.leave_at_once(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


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


def _end(error: Exception) -> NoReturn:
    """Log the traceback, then cause and remedy as the last line, and end now whatever threads are running."""
    serving.Post().failed(error)
