"""What the proxy knows: where the servers are, what is answered here, and which connections are open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cpr_kit.emulator.proxy import hosts
from cpr_kit.emulator.proxy.certificates import ServerCertificate
from cpr_kit.emulator.proxy.outside import Outside


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the servers listen on 127.0.0.1."""

    plain: int
    """HTTP/1.1 without TLS."""
    rest: int
    """HTTP/1.1 in TLS, with `ServerCertificate.context`."""
    grpc: int
    """gRPC in TLS, with `ServerCertificate.grpc_credentials()`."""


class Connection(Protocol):
    def abort(self) -> None: ...


@dataclass(kw_only=True)
class Ways:
    ports: Ports
    certificate: ServerCertificate
    plain: Callable[[], asyncio.Protocol] | None = None
    """Makes what serves a client's own connection without TLS, where that server is in this loop: one hop less."""
    outside: Outside | None = None
    """None: every host that is not Google's is refused."""
    report: Callable[[str], None] = lambda _line: None
    """Gets a line for each connection that was refused."""
    also: Callable[[str], bool] = lambda _host: False
    """Other hosts that are answered here, on ports 443 and 80 alone: the address of a Private Service Connect
    endpoint, which may be that of a machine of the caller's own network too."""
    hello_timeout_s: float = 10.0
    """How long a client may take until it has said whom it wants."""
    most_connections: int = 300
    connections: set[Connection] = field(default_factory=set)
    """Those that clients hold open."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def here(self, host: str) -> bool:
        return hosts.is_google(host) or self.also(hosts.normal(host))
