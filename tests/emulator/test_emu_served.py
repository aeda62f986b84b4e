"""A client's own connection without TLS: the emulator's server gets it from the proxy, and the proxy still counts it."""

from __future__ import annotations

import asyncio

from cpr_kit.emulator.proxy.certificates import ServerCertificate
from cpr_kit.emulator.proxy.connect import Proxy
from cpr_kit.emulator.proxy.ways import Ports

HEAD = b"GET /one HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Server(asyncio.Protocol):
    """Keeps what happens to it."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = asyncio.Event()
        self.came = asyncio.Event()
        self.paused: list[bool] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.came.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.ended.set()

    def pause_writing(self) -> None:
        self.paused.append(True)

    def resume_writing(self) -> None:
        self.paused.append(False)


class Case:
    """A proxy whose own ports answer nobody, and one client of it."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.made = asyncio.Event()
        ports = Ports(plain=1, rest=1, grpc=1)
        self.proxy = Proxy(ports=ports, certificate=ServerCertificate(), plain=self.make, hello_timeout_s=60)

    def make(self) -> Server:
        self.servers.append(Server())
        self.made.set()
        return self.servers[-1]

    async def client(self, *parts: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await self.proxy.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        for part in parts:
            writer.write(part)
            await writer.drain()
        return reader, writer

    async def served(self, data: bytes) -> Server:
        """Once all of `data` is there."""
        await self.made.wait()
        [server] = self.servers
        while len(server.data) < len(data):
            server.came.clear()
            await server.came.wait()
        assert server.data == data
        return server


def run(case: object) -> None:
    asyncio.run(asyncio.wait_for(case, 30))  # type: ignore[arg-type]


def test_the_server_gets_all_that_was_read_and_answers_itself() -> None:
    async def body() -> None:
        case = Case()
        reader, writer = await case.client(HEAD[:10], HEAD[10:])
        server = await case.served(HEAD)
        server.transport.write(b"answer")
        assert await reader.readexactly(6) == b"answer"
        writer.write(HEAD)
        await case.served(HEAD * 2)
        writer.close()
        await case.proxy.stop()

    run(body())


def test_a_client_that_leaves_is_told_and_forgotten() -> None:
    async def body() -> None:
        case = Case()
        _, writer = await case.client(HEAD)
        server = await case.served(HEAD)
        assert len(case.proxy.connections) == 1
        writer.close()
        await server.ended.wait()
        assert not case.proxy.connections
        await case.proxy.stop()

    run(body())


def test_the_proxys_end_ends_the_connection() -> None:
    async def body() -> None:
        case = Case()
        reader, writer = await case.client(HEAD)
        server = await case.served(HEAD)
        await case.proxy.stop()
        await server.ended.wait()
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()

    run(body())


def test_the_server_hears_of_a_client_that_does_not_read() -> None:
    async def body() -> None:
        case = Case()
        reader, writer = await case.client(HEAD)
        server = await case.served(HEAD)
        size = 2**26
        server.transport.write(bytes(size))
        assert server.paused == [True]
        assert len(await reader.readexactly(size)) == size
        assert server.paused == [True, False]
        writer.close()
        await case.proxy.stop()

    run(body())
