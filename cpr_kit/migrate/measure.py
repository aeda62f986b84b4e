"""What an image costs where it runs: its start, its memory, its requests a second."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from cpr_kit.contract import ContainerSpec
from cpr_kit.engine import inside
from cpr_kit.engine.protocol import Engine
from cpr_kit.errors import ContainerError
from cpr_kit.harness import client
from cpr_kit.harness.endpoint import LocalEndpoint
from cpr_kit.migrate import load

_POLL_S = 0.02
_OK = 200


@dataclass(frozen=True, kw_only=True)
class Request:
    """The body that is asked for again and again."""

    body: bytes
    content_type: str = client.JSON

    @classmethod
    def read(cls, path: Path) -> Request:
        body, content_type = client.encode(path)
        return cls(body=body, content_type=content_type)


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long is measured: starts of the container, of which the median counts; seconds of load."""

    starts: int = 3
    connections: int = 16
    warm_s: float = 1.0
    seconds: float = 5.0

    @classmethod
    def quick(cls) -> Effort:
        return cls(starts=1, warm_s=0.2, seconds=1.0)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Seconds to the first 200, MB of all processes after the load, answers a second, and the first answer.

    Memory is None where the kernel does not tell. Without a request the first 200 is that of the health route.
    """

    start_s: float
    memory_mb: float | None
    rate: float | None = None
    answer: bytes = b""


def run(spec: ContainerSpec, engine: Engine, *, artifacts: str | None, request: Request | None, effort: Effort) -> Run:
    """Raises ContainerError, with the log, where the container does not answer 200."""
    endpoint = LocalEndpoint(spec, engine, artifact_uri=artifacts, ready_interval_s=_POLL_S)
    starts = [_started(endpoint, request) for _ in range(effort.starts - 1)]
    began = time.monotonic()
    with endpoint:
        answer = _first(endpoint, request)
        starts.append(time.monotonic() - began)
        rate = _rate(endpoint, request, effort) if request else None
        assert endpoint.container is not None
        memory = float(inside.ask(endpoint.container, inside.MEMORY))
    return Run(start_s=statistics.median(starts), memory_mb=memory or None, rate=rate, answer=answer)


def _started(endpoint: LocalEndpoint, request: Request | None) -> float:
    began = time.monotonic()
    with endpoint:
        _first(endpoint, request)
        return time.monotonic() - began


def _first(endpoint: LocalEndpoint, request: Request | None) -> bytes:
    """The answer to the request, once health is 200."""
    if request is None:
        return b""
    response = endpoint.raw(request.body, request.content_type)
    if response.status_code != _OK:
        container = endpoint.container
        raise ContainerError(
            f"{endpoint.spec.image_uri} answered {response.status_code} to the request: {response.text[:300]}",
            container.logs() if container else "",
        )
    return response.content


def _rate(endpoint: LocalEndpoint, request: Request, effort: Effort) -> float:
    asked = load.Request(
        port=int(endpoint.assigned_host_port or 0),
        path=endpoint.serving_container_predict_route,
        body=request.body,
        content_type=request.content_type,
    )
    load.rate(asked, connections=effort.connections, seconds=effort.warm_s)
    return load.rate(asked, connections=effort.connections, seconds=effort.seconds)
