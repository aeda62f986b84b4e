"""A connection to the proxy, until it is known where it goes."""

from __future__ import annotations

import asyncio
import re
import urllib.parse
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from cpr_kit.emulator.proxy import hello, hosts
from cpr_kit.emulator.proxy.outside import UnreachableError, authorization
from cpr_kit.emulator.proxy.pipe import End, acknowledge
from cpr_kit.emulator.proxy.ways import Ways

_LONGEST_HEAD = 2**16
_HEAD_END = b"\r\n\r\n"
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+")
_PORT = re.compile(r"[0-9]{0,5}")
_LAST_PORT = 2**16 - 1
_TLS_PORT = 443
_HTTP_PORT = 80
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_HOP_HEADERS = ("host", "connection", "proxy-connection", "proxy-authorization", "keep-alive")
_LAST_WORDS_S = 2.0
_REMEDY = "cpr emulate --allow-internet passes it on"


class RefusedError(Exception):
    """The answer to a client whose connection goes nowhere; `what` is for the person at the terminal."""

    def __init__(self, status: int, reason: str, what: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Head:
    """The first request of a connection."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, data: bytes) -> Head:
        lines = data.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):  # noqa: PLR2004
            raise RefusedError(400, "this is no HTTP/1.1 request", "refused a connection")
        pairs = [line.partition(":") for line in lines[1:]]
        headers = tuple((name.strip(), value.strip()) for name, _, value in pairs)
        return cls(parts[0], parts[1], parts[2], headers)

    def rewritten(self, host: str, target: str, extra: str = "") -> bytes:
        """For one request alone: the next may be for another host, so it shall come on a connection of its own."""
        named = {value.strip().lower() for name, values in self.headers if name.lower() == "connection"
                 for value in values.split(",")}  # fmt: skip
        kept = [(name, value) for name, value in self.headers if name.lower() not in {*_HOP_HEADERS, *named}]
        lines = "".join(f"{name}: {value}\r\n" for name, value in [("Host", host), *kept, ("Connection", "close")])
        return f"{self.method} {target} {self.version}\r\n{lines}{extra}\r\n".encode("latin-1")


class Intake(asyncio.Protocol):
    """Reads a client's request, and its TLS hello, and joins it with the server that they name."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._data = b""
        self._step: Callable[[], None] = self._read_head
        self._server: End | None = None
        self._served: asyncio.Protocol | None = None
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._deadline = asyncio.get_running_loop().call_later(self._ways.hello_timeout_s, self._too_slow)
        self._ways.connections.add(self)
        if len(self._ways.connections) > self._ways.most_connections:
            full = f"{self._ways.most_connections} connections are open already"
            self._refuse(RefusedError(503, full, "refused a connection"))

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        acknowledge(self._transport)
        if self._served is not None:
            self._served.data_received(data)
            return
        self._data += data
        try:
            self._step()
        except RefusedError as refused:
            self._refuse(refused)
        except hello.NoHelloError as error:
            self._hang_up(f"refused a connection: {error} where TLS was expected")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._served is not None:
            self._served.connection_lost(exc)
        self._gone()

    def eof_received(self) -> bool | None:
        return self._served.eof_received() if self._served is not None else None

    def pause_writing(self) -> None:
        if self._served is not None:
            self._served.pause_writing()

    def resume_writing(self) -> None:
        if self._served is not None:
            self._served.resume_writing()

    def abort(self) -> None:
        """End both connections, now."""
        self._transport.abort()
        if self._server is not None:
            self._server.transport.abort()

    # What the client wants

    def _read_head(self) -> None:
        if self._data[0] == hello.HANDSHAKE:
            self._step = self._read_hello
            self._host = ""
            self._step()
            return
        head, end, rest = self._data.partition(_HEAD_END)
        if not end:
            if len(head) > _LONGEST_HEAD:
                raise RefusedError(431, f"the head of the request has over {_LONGEST_HEAD} bytes", "refused a request")
            return
        request = Head.parse(head)
        if request.method == "CONNECT":
            self._data = rest
            self._connect(request)
        elif request.target.startswith("/") or request.target == "*":
            self._serve()
        else:
            self._data = rest
            self._forward(request)

    def _connect(self, request: Head) -> None:
        host, port = _authority(request.target, _TLS_PORT, request.method)
        if self._ways.here(host) and port == _TLS_PORT:
            self._host = host
            self._step = self._read_hello
            self._transport.write(_ESTABLISHED)
            if self._data:
                self._step()
        elif self._ways.outside is not None and not hosts.is_google(host):
            self._go(self._leave("https", host, port, lambda _proxy: self._data, _ESTABLISHED))
        else:
            raise self._refusal(host, port, _TLS_PORT, f"CONNECT {host}:{port}")

    def _read_hello(self) -> None:
        said = hello.read(self._data)
        if said is None:
            return
        name = said.server_name or self._host
        if self._ways.here(name):
            self._ways.certificate.cover(name)
        # gRPC offers h2 alone. A client that speaks HTTP/1.1 too (curl) wants REST, whose server chooses that.
        is_grpc = "h2" in said.alpn and "http/1.1" not in said.alpn
        self._go(self._join(self._ways.ports.grpc if is_grpc else self._ways.ports.rest, self._data))

    def _forward(self, request: Head) -> None:
        try:
            url = urllib.parse.urlsplit(request.target)
        except ValueError:
            raise RefusedError(400, "the request names no URL", f"refused {request.method}") from None
        if url.scheme != "http":
            raise RefusedError(400, "only http:// URLs come this way; https:// comes by CONNECT", "refused a request")
        host, port = _authority(url.netloc.rpartition("@")[2], _HTTP_PORT, request.method)
        path = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
        if self._ways.here(host) and port == _HTTP_PORT:
            self._go(self._join(self._ways.ports.plain, request.rewritten(host, path) + self._data))
        elif self._ways.outside is not None and not hosts.is_google(host):
            self._go(self._leave("http", host, port, lambda proxy: self._outward(request, url.netloc, path, proxy)))
        else:
            raise self._refusal(host, port, _HTTP_PORT, f"{request.method} http://{host}:{port}")

    def _outward(self, request: Head, host: str, path: str, proxy: str | None) -> bytes:
        target, extra = (request.target, authorization(proxy)) if proxy else (path, "")
        return request.rewritten(host, target, extra) + self._data

    def _refusal(self, host: str, port: int, wanted: int, what: str) -> RefusedError:
        if self._ways.here(host):
            more = "" if hosts.is_google(host) else f"; {_REMEDY}"
            return RefusedError(403, f"{host} is answered on port {wanted} alone, not {port}{more}", f"refused {what}")
        return RefusedError(403, f"{host} is not emulated; {_REMEDY}", f"refused {what}")

    # Where it goes

    def _serve(self) -> None:
        if self._ways.plain is None:
            self._go(self._join(self._ways.ports.plain, self._data))
            return
        self._deadline.cancel()
        self._served = self._ways.plain()
        self._served.connection_made(self._transport)
        self._served.data_received(self._data)
        self._data = b""

    def _go(self, way: Coroutine[Any, Any, None]) -> None:
        self._deadline.cancel()
        self._transport.pause_reading()
        task = asyncio.get_running_loop().create_task(way)
        self._ways.tasks.add(task)
        task.add_done_callback(self._ways.tasks.discard)

    async def _join(self, port: int, first: bytes) -> None:
        server = End()
        try:
            await asyncio.get_running_loop().create_connection(lambda: server, "127.0.0.1", port)
        except OSError as error:
            self._hang_up(f"the emulator's own port {port} does not answer: {error}")
            return
        self._link(server, first)

    async def _leave(
        self, scheme: str, host: str, port: int, first: Callable[[str | None], bytes], answer: bytes = b""
    ) -> None:
        assert self._ways.outside is not None
        server = End()
        try:
            proxy = await self._ways.outside.connect(scheme, host, port, server)
        except UnreachableError as error:
            if not self._over:
                self._refuse(RefusedError(502, _printable(str(error)), f"refused {host}:{port}"))
            return
        if not self._over:
            self._transport.write(answer)
        self._link(server, first(proxy))

    def _link(self, server: End, first: bytes) -> None:
        if self._over or self._transport.is_closing():
            server.transport.abort()
            return
        self._server = server
        client = End(client=True, gone=self._gone)
        client.connection_made(self._transport)
        self._transport.set_protocol(client)
        if first:
            server.transport.write(first)
        client.join(server)
        self._transport.resume_reading()

    # Where it does not go

    def _refuse(self, refused: RefusedError) -> None:
        self._say(str(refused))
        body = f"cpr emulate: {refused.reason}\n".encode()
        self._transport.write(
            f"HTTP/1.1 {refused.status} {refused.reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode("latin-1", "replace")
            + body
        )
        # Closed with bytes unread, the connection would be reset, and the answer lost with it. The client gets a
        # moment to read it and to end; what it still sends is dropped.
        self._transport.write_eof()
        self._transport.resume_reading()
        self._deadline = asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._transport.abort)

    def _too_slow(self) -> None:
        if self._data or self._step != self._read_head:
            seconds = f"{self._ways.hello_timeout_s:g} s"
            self._hang_up(f"closed a connection that had not said what it wants after {seconds}")
        else:
            self._transport.abort()

    def _hang_up(self, line: str) -> None:
        self._say(line)
        self._transport.close()

    def _say(self, line: str) -> None:
        if not self._over:
            self._over = True
            self._deadline.cancel()
            self._ways.report(_printable(line))

    def _gone(self) -> None:
        self._over = True
        self._deadline.cancel()
        self._ways.connections.discard(self)


def _authority(text: str, default: int, method: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    host, port = (host, port) if colon else (text, "")
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port or default) > _LAST_PORT:
        raise RefusedError(400, "the request names no host and port", f"refused {method} {text[:80]!r}")
    return hosts.normal(host), int(port or default)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() and char.isascii() else "?" for char in text)
