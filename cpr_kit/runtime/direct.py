"""A prediction request between the guarded protocol and the model, without a task of its own.

What `App` does in a coroutine for any ASGI server is done here in five callbacks: the body is arriving, the body is
there, the model has answered, time is up, the client has gone. A task, its context and ASGI's messages cost more than
a small model. Streams and handlers of an author's own go the coroutine's way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from cpr_kit.runtime import faults, trace, whole
from cpr_kit.runtime.admission import Overloaded
from cpr_kit.runtime.flow import CONTINUE
from cpr_kit.runtime.steps import Call, Reply
from cpr_kit.runtime.whole import Defaults

if TYPE_CHECKING:
    from cpr_kit.runtime.app import App

_LEFT = 499


class Direct:
    """One request. `wait` comes first if its body is not there yet, then `begin`, then one of the other three."""

    __slots__ = ("_app", "_began", "_call", "_defaults", "_entered", "_fields", "_over", "_task", "_trace", "cycle")

    def __init__(
        self, app: App, cycle: RequestResponseCycle, fields: Mapping[bytes, bytes], defaults: Defaults
    ) -> None:
        self._app, self.cycle, self._fields, self._defaults = app, cycle, fields, defaults
        self._began = time.perf_counter()
        self._trace = trace.of(cycle.scope["headers"], fields)  # type: ignore[arg-type]
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._entered = self._over = False

    def wait(self) -> None:
        """The body is arriving. Whoever has no room for the request does not wait for the rest of it."""
        self._enter()
        cycle = self.cycle
        if self._entered and cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            cycle.transport.write(CONTINUE)

    def begin(self) -> None:
        """The body is there."""
        if not self._over and not self._entered:
            self._enter()
        if self._over:
            return
        app, cycle = self._app, self.cycle
        body, cycle.body = bytes(cycle.body), bytearray()
        self._call = call = Call(
            body,
            self._fields,
            max_body=app.settings.max_body,
            traced=self._trace,
            home=asyncio.get_running_loop(),
            settle=self._settled,
        )
        app.model.submit(call)

    def _enter(self) -> None:
        app, counted = self._app, self._app.model.metrics
        try:
            app.gate.enter()
        except Overloaded as error:
            counted.refused(error.reason)
            counted.request(error.status_code, 0.0)
            head, body = faults.overloaded(error.message, error.retry_after)
            head += b"x-request-id: %b\r\n" % self._trace.request_id.encode()
            self._over = True
            if not whole.send(self.cycle, self._defaults, error.status_code, head, body):
                self._later(faults.respond(error))
            return
        self._entered = True
        counted.in_flight(1)
        app.gate.deadlines.add(self, self._began)

    def leave(self) -> None:
        """The client has gone."""
        if self._entered and not self._over:
            self._give_up()
            self._end(_LEFT)
        if self._task is not None:
            # After its first step, which enters what its last one leaves.
            asyncio.get_running_loop().call_soon(self._task.cancel)

    def expire(self) -> None:
        self._give_up()
        self._end(504)
        self._respond(faults.late(self._app.gate.timeout))

    def _give_up(self) -> None:
        if self._call is not None:
            self._app.model.abandon(self._call)

    def _settled(self, call: Call) -> None:
        """The model has answered."""
        if call.error is not None:
            trace.current.set(self._trace)
            # Taken out of the call: a traceback leads to it, and a circle would keep its body for a while.
            error, call.error = call.error, None
            response = faults.respond(error)
            self._end(response.status_code)
            self._respond(response)
        elif isinstance(call.reply, Reply):
            self._end(200)
            self._reply(call.reply, trace.server_timing(*call.spent))
        else:
            assert call.reply is not None
            self._close()
            work = self._app.stream(call.reply, self.cycle, self._trace, self._began)
            self._task = asyncio.get_running_loop().create_task(work)

    def _close(self) -> None:
        self._app.gate.deadlines.remove(self)
        self._over = True
        if self._call is not None:
            self._call.abandoned = True  # nothing that comes later counts
            self._call.settle = None  # it leads back here, and a circle would wait for the garbage collector

    def _end(self, status: int) -> None:
        self._close()
        self._app.gate.leave()
        self._app.model.metrics.in_flight(-1)
        self._app.model.metrics.request(status, time.perf_counter() - self._began)

    def _reply(self, reply: Reply, timing: bytes) -> None:
        head = b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\nserver-timing: %b\r\n" % (
            reply.content_type.encode(),
            len(reply.body),
            self._trace.request_id.encode(),
            timing,
        )
        if reply.encoding:
            head += b"content-encoding: %b\r\n" % reply.encoding.encode()
        if not whole.send(self.cycle, self._defaults, 200, head, reply.body):
            headers = {"x-request-id": self._trace.request_id, "server-timing": timing.decode()}
            if reply.encoding:
                headers["content-encoding"] = reply.encoding
            self._later(Response(reply.body, headers=headers, media_type=reply.content_type))

    def _respond(self, response: Response) -> None:
        response.headers["x-request-id"] = self._trace.request_id
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        if not whole.send(self.cycle, self._defaults, response.status_code, head, bytes(response.body)):
            self._later(response)

    def _later(self, response: Response) -> None:
        """The client has not read what it got before."""
        cycle = self.cycle
        work = response(cycle.scope, cycle.receive, cycle.send)  # type: ignore[arg-type]
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(lambda _: None if cycle.response_complete else cycle.transport.close())
