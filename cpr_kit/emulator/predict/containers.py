"""HTTP to the containers: one request to a replica, its answer whole or as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from cpr_kit.emulator.errors import ApiError
from cpr_kit.emulator.predict import mapping
from cpr_kit.emulator.predict.target import DeployedModel, Replica
from cpr_kit.emulator.settings import Settings

KEEP_ALIVE_S = 1.0
"""Less than any server's own, so that none closes a connection while a request is on its way into it."""
_READ_BUFFER = 2**18
_ONE_WRITE = 2**20
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


def open_session() -> aiohttp.ClientSession:
    """The session of `Predictions`; call it on the loop. No cookies, no proxies, nothing unpacked or redirected."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, use_dns_cache=False)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_NOT_ADDED,
        read_bufsize=_READ_BUFFER,
    )


@dataclass(frozen=True, kw_only=True)
class Request:
    """`path` replaces the container's predict route; it is as on the wire, with its query."""

    model: DeployedModel
    body: bytes
    headers: Mapping[str, str]
    timeout_s: float
    path: str = ""


class Reply:
    """A container's answer of which status and headers are here; `close` it. The replica counts as busy until then."""

    def __init__(self, response: aiohttp.ClientResponse, replica: Replica, resources: contextlib.ExitStack) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._replica = replica
        self._resources = resources

    async def read(self, limit: int, refusal: ApiError) -> bytes:
        """The whole body; raises `refusal` once it is longer than `limit`."""
        with _translated(self._replica):
            if (length := self._response.content_length) is not None:
                if length > limit:
                    raise refusal
                return await self._response.read()
            parts, size = [], 0
            async for part in self._response.content.iter_any():
                size += len(part)
                if size > limit:
                    raise refusal
                parts.append(part)
            return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Whoever stops early closes the connection, and so tells the container."""
        try:
            with _translated(self._replica):
                async for part in self._response.content.iter_any():
                    yield part
        finally:
            self.close()

    def close(self) -> None:
        self._response.close()  # of an answer read to its end, the connection is kept
        self._resources.close()


class Containers:
    """Asks replicas. A request is sent again in one case: no connection to the replica could be made.

    Once it is sent, it may have been worked on, so a lost connection is the caller's 503, as behind Vertex AI's own
    proxies (RFC 9110, 9.2.2): a request that kills its container must not kill the next replica too.
    """

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings

    async def ask(self, request: Request) -> Reply:
        """The answer's status and headers; raises ApiError where there is none."""
        for replica in self._two(request.model):
            with contextlib.ExitStack() as resources, _translated(replica):
                resources.enter_context(replica.busy())
                try:
                    response = await self._session.post(
                        _url(replica.base_url, request.path or replica.predict_route, encoded=bool(request.path)),
                        # aiohttp warns of long bytes, and writes a file of the same in pieces
                        data=request.body if len(request.body) < _ONE_WRITE else io.BytesIO(request.body),
                        headers=request.headers,
                        timeout=_timeout(request.timeout_s),
                        allow_redirects=False,
                    )
                except aiohttp.ClientConnectorError:
                    replica.failed()
                    continue
                return Reply(response, replica, resources.pop_all())
        raise mapping.unreachable()

    def _two(self, model: DeployedModel) -> Iterator[Replica]:
        """A replica, and another if the first cannot be reached."""
        for attempt in range(2):
            replica = model.container.choose() if model.container else None
            if replica is not None:
                yield replica
            elif attempt == 0:
                raise mapping.not_ready(model, self._settings)


@contextlib.contextmanager
def _translated(replica: Replica) -> Iterator[None]:
    try:
        yield
    except asyncio.TimeoutError as error:
        raise mapping.too_slow() from error
    except (aiohttp.ClientError, OSError) as error:
        replica.broke()
        raise mapping.broken() from error


@functools.lru_cache(maxsize=1024)
def _url(base: str, route: str, *, encoded: bool) -> URL:
    return URL(base + route, encoded=encoded)


@functools.lru_cache(maxsize=64)
def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds)
