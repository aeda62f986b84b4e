"""The first message of a TLS client: which server it wants and which protocols it speaks (RFC 8446, 4.1.2)."""

from __future__ import annotations

from dataclasses import dataclass

HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_ALPN = 16
_HOST_NAME = 0
_LONGEST_RECORD = 2**14
_RECORD_HEADER = 5
_HANDSHAKE_HEADER = 4
_TLS_MAJOR = 3
_RANDOM = 32

LONGEST = 2**16
"""Bytes of the longest hello that is read; real ones have a few hundred, some thousands with post-quantum keys."""


class NoHelloError(ValueError):
    """These bytes are no ClientHello, and no more of them will make one."""


@dataclass(frozen=True)
class Hello:
    alpn: tuple[str, ...]
    """Application protocols, the client's favourite first; empty where it names none."""
    server_name: str | None


def read(data: bytes) -> Hello | None:
    """The hello at the start of `data`; None while bytes are missing. Raises NoHelloError."""
    message = _message(data)
    return None if message is None else _parse(message)


def _message(data: bytes) -> bytes | None:
    """The handshake message without its header, put together from as many records as it came in."""
    joined = bytearray()
    at = 0
    while at < len(data):
        if data[at] != HANDSHAKE:
            raise NoHelloError("no TLS handshake")
        if at + 1 < len(data) and data[at + 1] != _TLS_MAJOR:
            raise NoHelloError("an unknown version of TLS")
        if at + _RECORD_HEADER > len(data):
            break
        length = int.from_bytes(data[at + 3 : at + _RECORD_HEADER], "big")
        if not 0 < length <= _LONGEST_RECORD:
            raise NoHelloError(f"a TLS record of {length} bytes")
        joined += data[at + _RECORD_HEADER : at + _RECORD_HEADER + length]
        if (size := _size(joined)) is not None and len(joined) >= size + _HANDSHAKE_HEADER:
            return bytes(joined[_HANDSHAKE_HEADER : _HANDSHAKE_HEADER + size])
        at += _RECORD_HEADER + length
    if len(data) > LONGEST:
        raise NoHelloError(f"a ClientHello of more than {LONGEST} bytes")
    return None


def _size(joined: bytearray) -> int | None:
    if joined and joined[0] != _CLIENT_HELLO:
        raise NoHelloError("the first handshake message is no ClientHello")
    if len(joined) < _HANDSHAKE_HEADER:
        return None
    size = int.from_bytes(joined[1:_HANDSHAKE_HEADER], "big")
    if size > LONGEST:
        raise NoHelloError(f"a ClientHello of {size} bytes")
    return size


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise NoHelloError("a ClientHello whose lengths do not fit")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> _Reader:
        """What follows a length of `size` bytes."""
        return _Reader(self.take(self.number(size)))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)


def _parse(message: bytes) -> Hello:
    reader = _Reader(message)
    reader.take(2 + _RANDOM)  # version, random
    reader.block(1)  # session id
    reader.block(2)  # cipher suites
    reader.block(1)  # compression methods
    protocols: tuple[str, ...] = ()
    server: str | None = None
    extensions = reader.block(2) if reader else _Reader(b"")
    while extensions:
        kind = extensions.number(2)
        body = extensions.block(2)
        if kind == _ALPN:
            protocols = tuple(_protocols(body.block(2)))
        elif kind == _SERVER_NAME:
            server = _server(body.block(2))
    return Hello(protocols, server)


def _protocols(names: _Reader) -> list[str]:
    found = []
    while names:
        found.append(names.block(1).rest().decode("latin-1"))
    return found


def _server(names: _Reader) -> str | None:
    while names:
        kind = names.number(1)
        name = names.block(2).rest()
        if kind == _HOST_NAME:
            try:
                return name.decode("ascii").lower()
            except UnicodeDecodeError:
                raise NoHelloError("a server name that is not ASCII") from None
    return None
