"""The proxy of the emulator's environment: what goes to Google's hosts ends at the servers on this machine.

It takes CONNECT for TLS, whole URLs for plain HTTP (private endpoints, the metadata server), and, so that one port is
enough, TLS and requests that mean itself. It dials out only with `outside`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cpr_kit.emulator.proxy.intake import Intake
from cpr_kit.emulator.proxy.ways import Ways

_BACKLOG = 512


@dataclass(kw_only=True)
class Proxy(Ways):
    port: int = 0
    """On 127.0.0.1. 0: a free one, which stands here once it is started."""
    server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Intake(self), "127.0.0.1", self.port, backlog=_BACKLOG)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """No connection is left, to either side."""
        if self.server is not None:
            self.server.close()
        for connection in tuple(self.connections):
            connection.abort()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.server is not None:
            await self.server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
