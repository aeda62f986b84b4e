"""Writing an object: in one request (media, multipart), or over several (resumable).

Source: "Objects: insert", and "Perform resumable uploads" for Content-Range, 308 and what a session does.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cpr_kit.emulator.storage import errors, wire
from cpr_kit.emulator.storage.conditions import number
from cpr_kit.emulator.storage.objects import NewObject, Objects
from cpr_kit.emulator.storage.records import Object
from cpr_kit.emulator.storage.related import Related, boundary
from cpr_kit.emulator.storage.uploads import Upload, Uploads

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", re.ASCII)
_QUANTUM = 256 * 1024
_UNFINISHED, _CANCELLED = 308, 499


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What a Content-Range says: bytes from `start`, `size` of them (None: to the body's end), of `total`."""

    start: int | None
    size: int | None
    total: int | None
    is_last: bool

    @classmethod
    def of(cls, header: str | None) -> Piece:
        """Without the header, the body is all of the object."""
        if header is None:
            return cls(start=0, size=None, total=None, is_last=True)
        match = _RANGE.fullmatch(header.strip())
        if match is None or (match[1] and int(match[2]) < int(match[1])):
            raise errors.invalid(f"Failed to parse Content-Range header: {header}")
        first, last, total = match.groups()
        return cls(
            start=int(first) if first else None,
            size=int(last) - int(first) + 1 if first else 0,
            total=None if total == "*" else int(total),
            is_last=False,
        )


class UploadCalls:
    def __init__(self, objects: Objects, uploads: Uploads) -> None:
        self._objects = objects
        self._uploads = uploads

    def routes(self) -> list[Route]:
        path = "/upload/storage/v1/b/{bucket}/o"
        return [
            Route(path, self.insert, methods=["POST"]),
            Route(path, self.put, methods=["PUT"]),
            Route(path, self.cancel, methods=["DELETE"]),
        ]

    async def insert(self, request: Request) -> Response:
        ways = {"media": self._media, "multipart": self._multipart, "resumable": self._start}
        way = request.query_params.get("uploadType", "")
        if way not in ways:
            raise errors.invalid(f'Invalid value for uploadType: "{way}"; allowed: {", ".join(ways)}')
        if way == "resumable" and "upload_id" in request.query_params:
            return await self.put(request)
        return await ways[way](request)

    async def _media(self, request: Request) -> Response:
        new = _new(request, {}, request.headers.get("content-type"))
        return await self._whole(request, new, request.stream())

    async def _multipart(self, request: Request) -> Response:
        parts = Related(aiter(request.stream()), boundary(request.headers.get("content-type", "")))
        resource = await parts.resource()
        new = _new(request, resource, await parts.media_type())
        return await self._whole(request, new, parts.media())

    async def _whole(self, request: Request, new: NewObject, pieces: AsyncIterator[bytes]) -> Response:
        await run_in_threadpool(self._objects.may_put, new)
        with self._objects.draft() as draft:
            await wire.receive(pieces, draft)
            found = await run_in_threadpool(self._objects.put, new, draft)
        return _answer(found, request)

    async def _start(self, request: Request) -> Response:
        new = _new(request, await wire.json_body(request), request.headers.get("x-upload-content-type"), media=False)
        total = number(request.headers, "x-upload-content-length")
        upload = await run_in_threadpool(self._uploads.start, new, total)
        path = f"/upload/storage/v1/b/{new.bucket}/o?uploadType=resumable&upload_id={upload.id}"
        headers = {"location": wire.base(request) + path, "x-guploader-uploadid": upload.id}
        return Response(status_code=200, headers=headers)

    async def cancel(self, request: Request) -> Response:
        upload = await self._find(request)
        async with upload.lock:
            if upload.done is None:
                await run_in_threadpool(self._uploads.cancel, upload)
        return Response(status_code=_CANCELLED)

    async def put(self, request: Request) -> Response:
        """A piece, or the question how much has come: `bytes */*`."""
        upload, piece = await self._find(request), Piece.of(request.headers.get("content-range"))
        # One piece at a time; a question waits for what is still being written, so that its answer stays true.
        async with upload.lock:
            if upload.done is None:
                upload = await self._find(request)  # it may have been cancelled
                await self._take(upload, piece, request)
            if upload.done is not None:
                return _answer(upload.done, request)
            return _progress(upload, request)

    async def _find(self, request: Request) -> Upload:
        upload_id = request.query_params.get("upload_id")
        if not upload_id:
            raise errors.required("upload_id")
        return await run_in_threadpool(self._uploads.find, upload_id)

    async def _take(self, upload: Upload, piece: Piece, request: Request) -> None:
        """Write what is new of the piece; with the last byte, the upload is an object."""
        draft, total = upload.draft, piece.total if piece.total is not None else upload.total
        _agree(upload, piece)
        came = draft.size
        if piece.start is not None:
            if piece.start > came:
                raise errors.invalid(f"The piece starts at byte {piece.start}, but {came} bytes have come.")
            try:
                await wire.receive(_exactly(request.stream(), came - piece.start, piece.size), draft)
            except errors.StorageError:
                await run_in_threadpool(draft.truncate, came)
                raise
        if piece.is_last and total is None:
            total = draft.size
        if draft.size == total:
            await run_in_threadpool(self._uploads.finish, upload, **wire.hashes(request.headers))
        elif piece.is_last or (total is not None and draft.size > total):
            size = draft.size
            await run_in_threadpool(draft.truncate, came)
            raise errors.invalid(f"The upload was to have {total} bytes, but {size} have come.")
        elif draft.size % _QUANTUM:
            # The service keeps whole multiples alone of a piece that is not the last.
            await run_in_threadpool(draft.truncate, draft.size - draft.size % _QUANTUM)


def _new(request: Request, resource: Mapping[str, Any], content_type: str | None, *, media: bool = True) -> NewObject:
    """Parameters go before the resource, and the resource before the headers of the bytes."""
    query, told = request.query_params, dict(resource)
    if not told.get("contentType") and content_type:
        told["contentType"] = content_type
    if "contentEncoding" in query:
        told["contentEncoding"] = query["contentEncoding"]
    checksums = wire.hashes(request.headers) if media else {}
    told.setdefault("crc32c", checksums.get("crc32c"))
    told.setdefault("md5Hash", checksums.get("md5"))
    return wire.new_object(request, wire.path(request, "bucket"), query.get("name") or told.get("name"), told)


def _agree(upload: Upload, piece: Piece) -> None:
    if None not in (upload.total, piece.total) and upload.total != piece.total:
        raise errors.invalid(f"The upload was announced with {upload.total} bytes; the piece says {piece.total}.")
    if piece.start is not None and piece.size is not None and piece.total is not None:  # noqa: SIM102
        if piece.start + piece.size > piece.total:
            raise errors.invalid(f"The piece ends after byte {piece.total}, the last one of the upload.")


async def _exactly(pieces: AsyncIterator[bytes], skipped: int, size: int | None) -> AsyncIterator[bytes]:
    """The body without its first bytes, which have come before. 400 unless it has the size that was said."""
    came = 0
    async for piece in pieces:
        fresh = piece[max(0, skipped - came) :]
        came += len(piece)
        if size is not None and came > size:
            raise errors.invalid(f"The body has more than the {size} bytes that Content-Range says.")
        if fresh:
            yield fresh
    if size is not None and came < size:
        raise errors.invalid(f"The body has {came} bytes; Content-Range says {size}.")


def _progress(upload: Upload, request: Request) -> Response:
    headers = {"range": f"bytes=0-{upload.draft.size - 1}"} if upload.draft.size else {}
    if request.headers.get("x-guploader-no-308") == "yes":
        # For clients that take 308 for a redirect.
        return Response(status_code=200, headers={**headers, "x-http-status-code-override": str(_UNFINISHED)})
    return Response(status_code=_UNFINISHED, headers=headers)


def _answer(found: Object, request: Request) -> Response:
    return wire.answer(found.resource(wire.base(request)), headers={"etag": found.etag})
