"""What stands before the local registry: its clients are container engines, and no page of a browser is let in.

The registry itself listens on a Unix socket, which no browser can ask. Whatever a browser asks shows in the first
request of its connection, so that this one alone is read: a Host that is another's (DNS rebinding), an Origin, or the
Sec-Fetch headers and the User-Agent that no script can take away.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from cpr_kit.emulator.proxy.hosts import LOCAL
from cpr_kit.engine import ports

_LONGEST_HEAD = 1 << 16
_HEAD_S = 30.0
_PIECE = 1 << 18
_END_S = 0.1
_REFUSAL = b"The emulator's registry answers container engines alone.\n"
_REFUSED = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    % (len(_REFUSAL), _REFUSAL)
)


@contextlib.contextmanager
def serving(registry: Path) -> Iterator[int]:
    """Passes connections on to the Unix socket `registry`; the port, on 127.0.0.1. In a thread of its own."""
    loop = asyncio.new_event_loop()
    front = _Front(registry)
    try:
        server = loop.run_until_complete(
            asyncio.start_server(front.take, ports.HOST, 0, limit=_LONGEST_HEAD, start_serving=True)
        )
    except BaseException:
        loop.close()
        raise
    thread = threading.Thread(target=loop.run_forever, name="cpr-registry-front", daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(front.close())
        loop.close()


def is_welcome(head: bytes) -> bool:
    """Whether the head of a request is a container engine's, or a program's of this machine."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    found = dict(fields)
    hosts = [value.rpartition(":")[0] or value for name, value in fields if name == "host"]
    return (
        len(hosts) == 1
        and hosts[0].lower() in LOCAL
        and "origin" not in found
        and not any(name.startswith("sec-fetch-") for name in found)
        and not found.get("user-agent", "").startswith("Mozilla/")
    )


class _Front:
    def __init__(self, registry: Path) -> None:
        self._registry = registry
        # asyncio itself does not hold a connection's task once the client has gone.
        self._open: set[asyncio.Task[Any] | None] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._open.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, asyncio.TimeoutError):
                await self._pass(reader, writer)
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            self._open.discard(task)

    async def close(self) -> None:
        """Whatever is being passed on ends here."""
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # a cancelled one may have begun others
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_END_S)
        await asyncio.sleep(0)  # in which the transports close their sockets

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await asyncio.wait_for(_head(reader), _HEAD_S)
        if not is_welcome(head):
            writer.write(_REFUSED)
            await writer.drain()
            return
        theirs, there = await asyncio.open_unix_connection(self._registry)
        try:
            there.write(head)
            await _either(_pump(reader, there), _pump(theirs, writer))
        finally:
            there.transport.abort()


async def _head(reader: asyncio.StreamReader) -> bytes:
    first = await reader.readexactly(1)
    # An engine tries TLS first, and plain HTTP once that has failed: it is told at once, as Go's servers tell it.
    return first + await reader.readuntil(b"\r\n\r\n") if first.isalpha() else first


async def _either(*pumps: Coroutine[Any, Any, None]) -> None:
    """Until both ends were passed on, or one is gone."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
