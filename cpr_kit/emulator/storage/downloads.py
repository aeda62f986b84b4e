"""Reading an object's bytes: whole, a range of them, or unpacked for a client that does not know gzip.

Sources: "Objects: get" with alt=media, "Transcoding of gzip-compressed files", and RFC 9110 for ranges.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from cpr_kit.emulator.storage import errors
from cpr_kit.emulator.storage.contents import CHUNK
from cpr_kit.emulator.storage.objects import Objects, Reference
from cpr_kit.emulator.storage.records import Object

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_SENT = {
    "cacheControl": "cache-control",
    "contentDisposition": "content-disposition",
    "contentLanguage": "content-language",
}
_GZIP = 31  # zlib's sign for it


class Media(StreamingResponse):
    """The bytes of an open file, which is closed whatever becomes of the answer."""

    def __init__(self, file: BinaryIO, content: AsyncIterator[bytes], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(content, status)
        self._file = file
        self.raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] == "HEAD":
                await Response.__call__(_Head(self.status_code, self.raw_headers), scope, receive, send)
            else:
                with contextlib.suppress(ClientDisconnect):
                    await super().__call__(scope, receive, send)
        finally:
            self._file.close()


class _Head(Response):
    def __init__(self, status: int, raw_headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__(status_code=status)
        self.raw_headers = raw_headers


async def media(objects: Objects, wanted: Reference, request: Request) -> Response:
    found, file = await run_in_threadpool(objects.open, wanted)
    try:
        return _media(found, file, request)
    except BaseException:
        file.close()
        raise


def _media(found: Object, file: BinaryIO, request: Request) -> Response:
    headers = _headers(found)
    if found.fields.get("contentEncoding") == "gzip" and _is_unpacked(found, request):
        headers["warning"] = "214 UploadServer gunzipped"
        return Media(file, _unpacked(file), 200, headers)
    if found.fields.get("contentEncoding"):
        headers["content-encoding"] = found.fields["contentEncoding"]
    start, end, status = 0, found.size, 200
    headers["accept-ranges"] = "bytes"
    asked = _range(request.headers.get("range"), found.size)
    if asked is not None:
        start, end = asked
        if start >= found.size:
            refused = errors.range_not_satisfiable()
            file.close()
            return Response(
                refused.message, refused.http_status, {"content-range": f"bytes */{found.size}"}, "text/html"
            )
        headers["content-range"], status = f"bytes {start}-{end - 1}/{found.size}", 206
    headers["content-length"] = str(end - start)
    return Media(file, _pieces(file, start, end), status, headers)


def _headers(found: Object) -> dict[str, str]:
    md5 = f",md5={found.md5}" if found.md5 else ""
    headers = {
        "content-type": found.content_type,
        "etag": f'"{found.etag}"',
        "last-modified": email.utils.formatdate(found.updated / 1e6, usegmt=True),
        "cache-control": "private, max-age=0",
        # A stored page must not run as one of the emulator's own. Google serves objects from a host of theirs instead.
        "content-security-policy": "sandbox",
        "x-goog-generation": str(found.generation),
        "x-goog-metageneration": str(found.metageneration),
        "x-goog-hash": f"crc32c={found.crc32c}{md5}",
        "x-goog-stored-content-encoding": str(found.fields.get("contentEncoding") or "identity"),
        "x-goog-stored-content-length": str(found.size),
        "x-goog-storage-class": str(found.fields.get("storageClass") or "STANDARD"),
    }
    headers.update({sent: found.fields[name] for name, sent in _SENT.items() if found.fields.get(name)})
    return headers


def _is_unpacked(found: Object, request: Request) -> bool:
    """Decompressive transcoding: the service does it for whoever does not accept gzip, unless it is forbidden to."""
    accepted = request.headers.get("accept-encoding", "").lower()
    return "gzip" not in accepted and "no-transform" not in str(found.fields.get("cacheControl", "")).lower()


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None, for all, when none is asked for or it makes no sense."""
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if first:
        if last and int(last) < int(first):
            return None
        return int(first), min(int(last) + 1, size) if last else size
    return (max(0, size - int(last)), size) if last else None


async def _pieces(file: BinaryIO, start: int, end: int) -> AsyncIterator[bytes]:
    file.seek(start)
    while start < end:
        piece = await run_in_threadpool(file.read, min(CHUNK, end - start))
        if not piece:
            raise OSError(f"a stored content ended at byte {start}, {end - start} before its end")
        start += len(piece)
        yield piece


async def _unpacked(file: BinaryIO) -> AsyncIterator[bytes]:
    unpacker = zlib.decompressobj(_GZIP)
    while packed := await run_in_threadpool(file.read, CHUNK):
        while packed:
            yield await run_in_threadpool(unpacker.decompress, packed, CHUNK)
            packed = unpacker.unconsumed_tail
            if unpacker.eof:  # another gzip member may follow
                packed = unpacker.unused_data
                unpacker = zlib.decompressobj(_GZIP)
    yield unpacker.flush()
