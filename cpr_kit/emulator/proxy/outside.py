"""What lies beyond this machine, reached the way it was reached before the emulator came."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from cpr_kit.emulator.proxy.certificates import MARKER
from cpr_kit.emulator.proxy.pipe import End

_LONGEST_HEAD = 2**16
_TIMEOUT_S = 30.0
_PORTS = {"http": 80, "https": 443}
_HEAD_END = b"\r\n\r\n"


class UnreachableError(Exception):
    """The host, or the proxy in between, did not take the connection."""


@dataclass(frozen=True)
class Outside:
    """`proxies` are those of the environment outside, by scheme, and under "no" the names that need none."""

    proxies: Mapping[str, str]

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Outside:
        """From https_proxy, http_proxy and no_proxy, in either case; none where they are another emulator's."""
        if environ.get(MARKER):
            return cls({})
        names = {**{scheme: f"{scheme}_proxy" for scheme in _PORTS}, "no": "no_proxy"}
        values = {key: environ.get(name) or environ.get(name.upper()) or "" for key, name in names.items()}
        return cls({key: value for key, value in values.items() if value})

    async def connect(self, scheme: str, host: str, port: int, end: End) -> str | None:
        """Connect `end` to the host. The URL of the proxy where that wants to be told each request's whole URL.

        Raises UnreachableError.
        """
        try:
            return await asyncio.wait_for(self._connect(scheme, host, port, end), _TIMEOUT_S)
        except asyncio.TimeoutError as error:
            raise UnreachableError(f"{host}:{port} did not answer within {_TIMEOUT_S:.0f} s") from error
        except (OSError, ValueError) as error:
            raise UnreachableError(f"{host}:{port} cannot be reached: {error}") from error

    async def _connect(self, scheme: str, host: str, port: int, end: End) -> str | None:
        proxy = self.proxies.get(scheme)
        if not proxy or urllib.request.proxy_bypass_environment(host, dict(self.proxies)):  # type: ignore[attr-defined]
            await asyncio.get_running_loop().create_connection(lambda: end, host, port)
            return None
        url = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if url.scheme not in _PORTS:
            raise UnreachableError(f"{scheme}_proxy={proxy}: only proxies of http:// and https:// are used")
        secure = ssl.create_default_context() if url.scheme == "https" else None
        where = (url.hostname or "", url.port or _PORTS[url.scheme])
        if scheme == "http":
            await asyncio.get_running_loop().create_connection(lambda: end, *where, ssl=secure)
            return url.geturl()
        tunnel = _Tunnel(f"{host}:{port}", authorization(url.geturl()), end)
        await asyncio.get_running_loop().create_connection(lambda: tunnel, *where, ssl=secure)
        await tunnel.ready
        return None


def authorization(proxy: str) -> str:
    """The header line for a proxy whose URL names a user; nothing for others."""
    parts = urllib.parse.urlsplit(proxy)
    if not parts.username:
        return ""
    user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}\r\n"


class _Tunnel(asyncio.Protocol):
    """Asks a proxy for a tunnel, and leaves the connection to `end` once it is there."""

    def __init__(self, host: str, header: str, end: End) -> None:
        self._request = f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{header}\r\n"
        self._end = end
        self._head = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request.encode())

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(_HEAD_END)
        if not end:
            if len(head) > _LONGEST_HEAD:
                self._fail("its answer is too long")
            return
        line = head.partition(b"\r\n")[0].decode("latin-1")
        if line.split(" ")[1:2] != ["200"]:
            self._fail(f'it answers "{line}"')
            return
        self._transport.set_protocol(self._end)
        self._end.connection_made(self._transport)
        if rest:
            self._end.data_received(rest)
        if not self.ready.done():
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc or "it hung up"))

    def _fail(self, why: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(UnreachableError(f"the proxy of the environment gave no tunnel: {why}"))
            self._transport.close()
