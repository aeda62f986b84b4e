"""Which way a request goes: one for the model needs no task of its own."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cpr_kit.runtime.whole import Defaults

_OF_A_HEAD = ("http_version", "method", "path", "raw_path", "query_string")


class ShortWay(HttpToolsProtocol):
    """Offers each request to `app.direct`, where the application has that, and starts a task for the others."""

    defaults: ClassVar[Defaults]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fields: dict[bytes, bytes] = {}  # of the head that is being taken
        self._known: dict[str, Any] = {}  # what a scope has of the head that is usual
        self._lasting = True  # whether that head keeps the connection
        self._direct: Any = None  # the last request of this connection, if it goes the short way

    def connection_lost(self, exc: Exception | None) -> None:
        if self._direct is not None:
            self._direct.leave()
            self._direct = None
        super().connection_lost(exc)

    def _learn(self) -> None:
        """Of the request just taken: what the next one with the same head need not be asked again."""
        scope = self.cycle.scope
        self._known = {name: scope[name] for name in _OF_A_HEAD}  # type: ignore[literal-required]
        self._lasting = self.cycle.keep_alive

    def _take_known(self) -> None:
        """As uvicorn's `on_headers_complete` takes any request, for a head that is known already."""
        self.scope.update(self._known)  # type: ignore[typeddict-item]
        earlier = self.cycle
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=self._lasting,
            on_response=self.on_response_complete,
        )
        if earlier.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        direct = getattr(app, "direct", None)
        self._direct = direct(cycle, self._fields, self.defaults) if direct is not None else None
        if self._direct is None:
            super()._start_asgi_task(cycle, app)

    def _start_waiting(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Its turn has come, behind another request of this connection."""
        if self.transport.is_closing() or cycle.disconnected:
            return
        self._fields = dict(cycle.scope["headers"])
        self._start_asgi_task(cycle, app)
        if self._direct is None:
            return
        if cycle.more_body:
            self._direct.wait()
        else:
            self._direct.begin()

    def _is_direct(self) -> bool:
        return self._direct is not None and self._direct.cycle is self.cycle
