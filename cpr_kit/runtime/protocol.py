"""What stands between the network and the application on each connection: uvicorn's HTTP/1.1 with limits."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from cpr_kit.runtime.flow import CONTINUE, EarlyAnswer, Flow, Trailers, is_all_body, is_reset, leave
from cpr_kit.runtime.head import (
    NO_HEAD,
    Head,
    Refusal,
    check,
    check_size,
    explain,
    origin_form,
    too_large,
    too_many_bytes,
)
from cpr_kit.runtime.shortcut import ShortWay
from cpr_kit.runtime.watch import NEVER, Limits, Watch
from cpr_kit.runtime.whole import Defaults, form

logger = logging.getLogger("cpr_kit")

# Input is parsed in pieces, so that what one read holds of pipelined requests does not all become requests at once.
_SLICE = 16 * 1024
# A chunk of one byte takes six; a body that takes more is made of chunk extensions and trailers.
_CHUNK_OVERHEAD = 8
_FIRST_LOOK_S = 0.01

_SPECIAL = frozenset((b"expect", b"transfer-encoding", b"upgrade"))  # these change what other bytes mean

_IDLE, _HEAD, _BODY = range(3)  # where the request that is arriving has got to


def guarded(limits: Limits) -> type[GuardedProtocol]:
    """The protocol for one server in one event loop: `uvicorn.Config(http=guarded(Limits(max_body=10_000_000)))`."""
    return type("Guarded", (GuardedProtocol,), {"limits": limits, "watch": Watch(limits), "defaults": Defaults()})


class GuardedProtocol(ShortWay):
    """Answers what is no request worth the application's time, in the one form of errors, and then closes.

    Whatever a client does, it costs bounded memory and bounded time. Sizes, times and counts are those of `limits`.
    """

    limits: ClassVar[Limits]
    watch: ClassVar[Watch]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.ws_protocol_class = None
        self.deadline = NEVER
        self.stalled = NEVER
        self._phase = _IDLE
        self._since = 0.0  # when the unfinished request began; 0 while nothing had to wait for it
        self._piece = self._head_bytes = self._body_bytes = self._raw_bytes = 0
        self._usual = NO_HEAD
        self._upgrading = False
        self._held = bytearray()  # input that waits until earlier requests are answered
        self._running: RequestResponseCycle | None = None  # known only while others wait behind it
        self._ended = False  # the client has closed its half of the connection
        self._last = False  # the connection ends with what has arrived: the client or the server is leaving
        self._refused = False
        self._answer = b""  # the refusal, while earlier requests are unanswered
        self._discarded = 0
        self._lingering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = Flow(transport)
        self.watch.add(self, self.loop)
        self.deadline = self.loop.time() + self.timeout_keep_alive
        if len(self.connections) > self.limits.max_connections:
            self._refuse(Refusal(503, "the server has too many connections; try again"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.discard(self)
        self.deadline = self.stalled = NEVER
        self._held.clear()
        if self._running is not None:
            leave(self._running)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._discarded += len(data)
            if self._discarded > self.limits.linger_bytes:
                self.transport.abort()
        elif self._held or (len(data) > _SLICE and not self._is_body(len(data))):
            self._held += data
            self._feed_held()
        else:
            self._feed(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether to keep the other direction open: a client may close its own once it has sent its request."""
        if self._lingering or self.transport.is_closing():
            return False
        if self._phase:
            self._refuse(Refusal(400, "the connection ended before the request did"))
        if not self._owes():
            return False
        if not self._ended:
            self._ended = self._last = True
            self._look_for_client(_FIRST_LOOK_S, probe=True)
        return True

    def shutdown(self) -> None:
        """What has begun to arrive is still answered; everything else is closed now."""
        self._last = True
        if not (self._phase == _HEAD or self._held or self._refused):
            super().shutdown()

    def pause_writing(self) -> None:
        self.stalled = self.loop.time() + self.limits.write_timeout
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stalled = NEVER
        super().resume_writing()

    def _feed(self, data: bytes) -> None:
        self._piece = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(explain(error, data if self._piece else b""))  # else it begins with an earlier request
        else:
            if self._phase:
                self._wait_for_rest()
            elif self._piece and data.strip(b"\r\n"):  # not even a method is whole
                self._phase = _HEAD
                self._wait_for_rest()

    def _feed_held(self) -> None:
        """Parse what is held, but no further than to a request that has to wait for its turn."""
        while self._held and not self.pipeline and not self._refused:
            size = len(self._held) if self._is_body(len(self._held)) else _SLICE
            data = bytes(memoryview(self._held)[:size])
            del self._held[:size]
            self._feed(data)
        if self._refused:
            self._held.clear()
        flow = cast("Flow", self.flow)
        if self._held:
            flow.pause_reading()
            flow.held = True
        elif flow.held:
            flow.held = False
            flow.resume_reading()

    def _is_body(self, size: int) -> bool:
        return self._phase == _BODY and is_all_body(self.cycle, self._body_bytes, size)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """A server may ignore an offer of another protocol (RFC 9110, 7.8): parse the request again without it.

        The parser reads no body after such an offer, which clients for HTTP/2 send along with a POST.
        """
        self._upgrading = False
        headers = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        self._feed(b"".join((line, *headers, b"\r\n", rest)))

    def on_url(self, url: bytes) -> None:
        self._phase = _HEAD
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        earlier, usual = self.cycle, self._usual
        # A client asks for the same again and again; the head that was right the last time is right this time.
        if (
            self.headers == usual.headers
            and self.url == usual.url
            and self.parser.get_method() == usual.method
            and self.parser.get_http_version() == usual.version
        ):
            self._fields = usual.fields
            self._take_known()
        else:
            self._inspect()
            if self._upgrading:
                return
            super().on_headers_complete()
            if self._usual is not usual:
                self._learn()
        self._phase = _BODY
        self._body_bytes = 0
        if self.pipeline and self._running is None:
            self._running = earlier
        if self._last and not self._held:
            self.cycle.keep_alive = False

    def _inspect(self) -> None:
        self._fields = fields = dict(self.headers)
        head = Head(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers, fields)
        if self._head_bytes + self._piece > self.limits.max_header_bytes:
            check_size(head, self.limits)
        check(head, fields, self.limits)
        if self.url != self._usual.url:
            self.url = origin_form(self.url, self.limits)
        if _SPECIAL.isdisjoint(fields):
            self._usual = Head(head.method, self.url, head.version, self.headers.copy(), fields)
            return
        self.expect_100_continue = b"expect" in fields and head.version == "1.1"
        self._upgrading = self.parser.should_upgrade()
        if b"transfer-encoding" in fields and not self._upgrading:
            self.headers = Trailers()  # what comes after the body; the scope has the list of what came before

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self.limits.max_body:
            raise too_large(self.limits)
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if self.pipeline and len(cycle.body) > HIGH_WATER_LIMIT:  # it waits, and nobody takes its body
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._phase = _IDLE
        self._piece = 0  # of what follows in this piece, nobody knows how much belongs to the next head
        if self._since:
            self._since = 0.0
            self._head_bytes = self._raw_bytes = 0
        self.cycle.more_body = False
        self.cycle.message_event.set()
        if self._is_direct():
            self._direct.begin()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._lingering:
            return
        if self.transport.is_closing():
            self.deadline = self.loop.time() + self.limits.write_timeout
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._running, app = self.pipeline.pop()
            self.loop.call_soon(self._start_waiting, self._running, app)
        else:
            self._running = None
            self._rest()
        if self._held:
            self.loop.call_soon(self._feed_held)

    def _rest(self) -> None:
        """All that was asked is answered."""
        if self._refused:
            self._linger(self._answer)
        elif self._last and not self._held and self._phase != _HEAD:
            self.finish()
        elif not self._phase:
            self.deadline = self.watch.now + self.watch.tick + self.timeout_keep_alive

    def _wait_for_rest(self) -> None:
        """Part of a request has arrived and its rest has not: see to its size, and to its time."""
        if not self._since:
            self._since = self.loop.time()
            self.deadline = self._since + self.limits.header_timeout
        if self._phase == _HEAD:
            self._head_bytes += self._piece
            if self._head_bytes > self.limits.max_header_bytes:
                self._refuse(too_many_bytes(len(self.url), self.limits))
            return
        if not self._raw_bytes:  # its first part
            self.deadline = self._since + min(self.limits.body_grace, self.limits.body_timeout)
            self.cycle.transport = cast("asyncio.Transport", EarlyAnswer(self.transport, self.finish))
            if self._is_direct():
                self._direct.wait()
        self._raw_bytes += self._piece + 1
        if self._raw_bytes > _CHUNK_OVERHEAD * self._body_bytes + self.limits.max_header_bytes + _SLICE:
            self._refuse(Refusal(400, "the body's chunks hold less data than extensions"))

    def expire(self, now: float) -> None:
        """The watch calls this once `deadline` or `stalled` has passed."""
        if self.transport.is_closing() or self._lingering or self.stalled <= now:
            self.transport.abort()
        elif self._held or (self._phase and self.flow.read_paused):
            self.deadline = now + self.limits.body_grace  # the server does not read, so the client is not to blame
        elif self._phase == _HEAD:
            self._refuse(Refusal(408, f"the headers did not arrive within {self.limits.header_timeout:g} s"))
        elif self._phase == _BODY:
            self._judge_pace(now)
        elif self._owes():
            self.deadline = now + self.limits.write_timeout
        else:
            self.transport.close()  # and cut off a tick later, when its client has left an answer unread

    def _judge_pace(self, now: float) -> None:
        passed = now - self._since
        if passed >= self.limits.body_timeout or self._body_bytes < passed * self.limits.body_rate:
            self._refuse(Refusal(408, f"after {passed:.1f} s, {self._body_bytes} bytes of the body had arrived"))
        else:
            self.deadline = min(self._since + self.limits.body_timeout, now + self.watch.tick)

    def _look_for_client(self, after: float, *, probe: bool = False) -> None:
        """Tell a client that closed its half of the connection from one that left: the second answers with a reset.

        Only what is sent provokes it. An interim response is what every client of HTTP/1.1 reads over.
        """
        cycle = self._running or self.cycle
        if self.transport.is_closing() or not self._owes():
            return
        if probe and not cycle.response_started and cycle.scope["http_version"] == "1.1":
            self.transport.write(CONTINUE)
        if is_reset(self.transport):
            self.transport.abort()
        else:
            self.loop.call_later(after, self._look_for_client, min(2 * after, 1.0))

    def _owes(self) -> bool:
        """Whether a request that was accepted is still unanswered."""
        running: RequestResponseCycle | None = self._running or self.cycle
        return bool(self.pipeline) or not (running is None or running.response_complete or running.disconnected)

    def _refuse(self, refusal: Refusal) -> None:
        """Take no further request, answer those before, then say why, then close."""
        if self._refused:
            return
        self._refused = True
        self.watch.refused[refusal.code] += 1
        logger.debug("refused a request with %d: %s", refusal.code, refusal.message)
        answer = form(refusal, self.server_state.default_headers)
        if self._phase == _BODY:
            if self.cycle.response_started:
                answer = b""  # there is an answer already, or half of one
            if self.pipeline:
                self.pipeline.popleft()
            leave(self.cycle)
            if self._is_direct():
                self._direct.leave()
        if self._owes():
            self._answer = answer
        else:
            self._linger(answer)

    def _linger(self, answer: bytes = b"") -> None:
        """Send `answer`, say that it was the last, and throw away what still comes.

        Closing with input unread resets the connection, and a reset takes the answer away from the client.
        """
        if self._lingering or self.transport.is_closing():
            return
        self._refused = self._lingering = True
        if answer:
            self.transport.write(answer)
        self._held.clear()
        cast("Flow", self.flow).held = False
        self.flow.resume_reading()
        self.deadline = self.loop.time() + self.limits.linger
        if self._ended:
            self.transport.close()
        elif self.transport.can_write_eof():
            self.transport.write_eof()

    def finish(self) -> None:
        """The answer to the request that was arriving is written and is the last on this connection."""
        if self._phase == _BODY:
            self._linger()
        else:
            self.transport.close()
            self.deadline = self.loop.time() + self.limits.write_timeout
