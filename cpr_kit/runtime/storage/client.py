"""Google Cloud Storage's JSON API over the standard library: one connection a thread, kept open.

A new connection for each object, as urllib makes them, is most of what a small object costs.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from cpr_kit.errors import StartError
from cpr_kit.runtime.storage import credentials
from cpr_kit.runtime.storage.listing import Blob
from cpr_kit.runtime.storage.patience import Passing, Patience, Tries, Watch

CHUNK = 1 << 20
_OK, _PARTIAL, _UNAUTHORIZED, _FORBIDDEN, _CHANGED = 200, 206, 401, 403, 412
_PASSING = {408, 429}
_SERVER_ERROR = 500


class Refused(StartError):
    """The storage answered with a status that no other try changes."""

    def __init__(self, cause: str, remedy: str, status: int) -> None:
        super().__init__(cause, remedy)
        self.status = status


class Client:
    """One bucket. Threads may share it. What it raises is a StartError; a Passing one may be tried again."""

    def __init__(
        self, bucket: str, environ: Mapping[str, str] = os.environ, *, patience: Patience | None = None
    ) -> None:
        self.bucket = bucket
        self.base = environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        self.base = (self.base if "://" in self.base else f"http://{self.base}").rstrip("/")
        self.watch = Watch(patience or Patience())
        self._credentials = credentials.find(environ)
        self._route = _Route(self.base, self.watch.patience.timeout_s)
        self._thread = threading.local()
        self._connections: set[http.client.HTTPConnection] = set()

    def close(self) -> None:
        """Hang up, in all threads. None of them may be at work."""
        while self._connections:
            self._connections.pop().close()

    def tries(self) -> Tries:
        return Tries(self.watch)

    def read(self, path: str) -> bytes:
        """A whole small answer, tried again while that may help."""
        tries = self.tries()
        while True:
            try:
                response = self._open(path, {})
                with self._received(response, "the list of objects"):
                    return response.read()
            except Passing as error:
                tries.failed(error)

    def stream(self, blob: Blob, start: int, end: int) -> Iterator[memoryview]:
        """Bytes `start` to `end` of the object as it is stored; each piece is overwritten by the next.

        Raises Passing when the connection ends before.
        """
        response = self._open(_download_path(blob), _range(blob, start, end))
        at = 0 if response.status == _OK else start
        view = self._buffer()
        with self._received(response, blob.uri):
            if response.status == _PARTIAL and not (response.getheader("Content-Range") or "").startswith(
                f"bytes {start}-"
            ):
                raise Passing(f"{blob.uri} arrived as another range than was asked for", "start again")
            while at < end:
                self.watch.check()
                # A server that knows no ranges sends all of it; what is here already is read and dropped.
                count = response.readinto(view[: min(CHUNK, (start if at < start else end) - at)])
                if not count:
                    raise Passing(f"{blob.uri} arrived cut short: {at} of {blob.size} bytes", "start again")
                at += count
                if at > start:
                    yield view[:count]

    def _buffer(self) -> memoryview:
        if not hasattr(self._thread, "buffer"):
            self._thread.buffer = memoryview(bytearray(CHUNK))
        return self._thread.buffer  # type: ignore[no-any-return]

    def _open(self, path: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """One try, whose answer is 200 or 206."""
        self.watch.check()
        authorization = self._credentials.headers()
        try:
            connection = self._connection()
            connection.request("GET", self._route.target(path), headers={**authorization, **headers})
            response: http.client.HTTPResponse = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._hang_up()
            raise Passing(f"{self.base} cannot be reached: {_told(error)}", "check the network") from error
        if response.status in (_OK, _PARTIAL):
            self._credentials.accepted(authorization)
            return response
        raise self._refusal(response, authorization)

    def _refusal(self, response: http.client.HTTPResponse, authorization: Mapping[str, str]) -> StartError:
        status, wait = response.status, response.getheader("Retry-After") or ""
        self._hang_up()
        cause = f"gs://{self.bucket} answered {status} {response.reason}"
        if status in _PASSING or status >= _SERVER_ERROR:
            return Passing(cause, "start again later", float(wait) if wait.isdecimal() else 0.0)
        if status == _UNAUTHORIZED and self._credentials.renewed(authorization):
            return Passing(cause, _remedy(status))
        return Refused(cause, _remedy(status), status)

    @contextlib.contextmanager
    def _received(self, response: http.client.HTTPResponse, what: str) -> Iterator[None]:
        """Around reading a body: leave no half-read connection, and say what the network's errors interrupted."""
        whole = False
        try:
            yield
            whole = response.isclosed()  # as it is after its last byte, and also when the other side hung up
        except (OSError, http.client.HTTPException) as error:
            raise Passing(f"{what} arrived cut short: {_told(error)}", "check the network") from error
        finally:
            if not whole:
                self._hang_up()

    def _connection(self) -> Any:
        if getattr(self._thread, "connection", None) is None:
            self._thread.connection = self._route.connection()
            self._connections.add(self._thread.connection)
        return self._thread.connection

    def _hang_up(self) -> None:
        connection, self._thread.connection = getattr(self._thread, "connection", None), None
        if connection is not None:
            self._connections.discard(connection)
            connection.close()


class _Route:
    """How the storage is reached: directly, or through the proxy that the environment names, as urllib reads it."""

    def __init__(self, base: str, timeout_s: float) -> None:
        self._base, self._timeout_s = urllib.parse.urlsplit(base), timeout_s
        if self._base.scheme not in ("http", "https") or not self._base.hostname:
            raise StartError(f'STORAGE_EMULATOR_HOST is "{base}"', "set it to host:port, or to an http or https URL")
        proxy = urllib.request.getproxies().get(self._base.scheme, "")
        direct = not proxy or urllib.request.proxy_bypass(self._base.hostname)
        self._proxy = None if direct else urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        self._context = ssl.create_default_context() if self._base.scheme == "https" else None

    def connection(self) -> http.client.HTTPConnection:
        near = self._proxy or self._base
        host, port = near.hostname or "", near.port
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        connection = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._context)
        if self._proxy is not None:
            connection.set_tunnel(self._base.hostname or "", self._base.port, self._headers())
        return connection

    def target(self, path: str) -> str:
        """What stands in the request's first line; a proxy for plain HTTP wants the whole URL."""
        whole = self._proxy is not None and self._context is None
        return f"{self._base.scheme}://{self._base.netloc}{path}" if whole else f"{self._base.path}{path}"

    def _headers(self) -> dict[str, str]:
        """Of the proxy's own: its user and password, where its URL has them."""
        if self._proxy is None or not self._proxy.username:
            return {}
        user = f"{urllib.parse.unquote(self._proxy.username)}:{urllib.parse.unquote(self._proxy.password or '')}"
        return {"Proxy-Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


def _download_path(blob: Blob) -> str:
    """The generation pins the object that was listed: one that is written meanwhile is refused, never mixed in."""
    name, bucket = urllib.parse.quote(blob.name, safe=""), urllib.parse.quote(blob.bucket, safe="")
    pinned = f"&generation={blob.generation}&ifGenerationMatch={blob.generation}" if blob.generation else ""
    return f"/download/storage/v1/b/{bucket}/o/{name}?alt=media{pinned}"


def _range(blob: Blob, start: int, end: int) -> dict[str, str]:
    # Asked for gzip, the storage sends such an object as it is stored: its size, its checksum, its ranges.
    headers = {"Accept-Encoding": "gzip"} if blob.gzipped else {}
    if (start, end) != (0, blob.size):
        headers["Range"] = f"bytes={start}-{end - 1}"
    return headers


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _remedy(status: int) -> str:
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        return "grant roles/storage.objectViewer on the bucket to the account the container runs as"
    if status == _CHANGED:
        return "an object was written while it was read: start again"
    return "check the bucket and the artifact URI"
