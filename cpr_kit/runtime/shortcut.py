"""Which way a request goes: one for the model needs no task of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cpr_kit.runtime.whole import Defaults


class ShortWay(HttpToolsProtocol):
    """Offers each request to `app.direct`, where the application has that, and starts a task for the others."""

    defaults: ClassVar[Defaults]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fields: dict[bytes, bytes] = {}  # of the head that came last
        self._direct: Any = None  # the last request of this connection, if it goes the short way

    def connection_lost(self, exc: Exception | None) -> None:
        if self._direct is not None:
            self._direct.leave()
            self._direct = None
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        direct = getattr(app, "direct", None)
        if direct is not None:
            fields = self._fields if cycle is self.cycle else dict(cycle.scope["headers"])
            direct = direct(cycle, fields, self.defaults)
        self._direct = direct
        if self._direct is None:
            super()._start_asgi_task(cycle, app)

    def _start_waiting(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Its turn has come, behind another request of this connection."""
        if self.transport.is_closing():
            return
        self._start_asgi_task(cycle, app)
        if self._direct is None:
            return
        if cycle.more_body:
            self._direct.wait()
        else:
            self._direct.begin()

    def _is_direct(self) -> bool:
        return self._direct is not None and self._direct.cycle is self.cycle
