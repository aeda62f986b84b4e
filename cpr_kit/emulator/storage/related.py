"""A multipart/related body as it arrives: the resource in JSON first, the object's bytes after it."""

from __future__ import annotations

import email.message
import email.parser
from collections.abc import AsyncIterator
from typing import Any

from cpr_kit.emulator.storage import errors, wire

_HEAD_BYTES = 1 << 20


def boundary(content_type: str) -> bytes:
    """Of a multipart type's header."""
    found = _headers(f"Content-Type: {content_type}".encode("latin-1")).get_param("boundary")
    if not content_type.lower().startswith("multipart/") or not isinstance(found, str) or not found:
        raise errors.invalid(f'A multipart body needs Content-Type: multipart/...; boundary=..., not "{content_type}"')
    return found.encode("latin-1")


class Related:
    """Read `resource` first, then `media`. Nothing is held but what has just arrived."""

    def __init__(self, stream: AsyncIterator[bytes], mark: bytes) -> None:
        self._stream = stream
        self._mark = b"--" + mark
        self._held = b""
        self._line_end = b"\r\n"

    async def resource(self) -> dict[str, Any]:
        await self._until(self._mark)
        # Some write a bare line feed, as Python's email package does.
        self._line_end = b"\r\n" if (await self._until(b"\n")).endswith(b"\r") else b"\n"
        await self._head()
        return wire.parsed(await self._until(self._line_end + self._mark))

    async def media_type(self) -> str | None:
        """The second part's own Content-Type."""
        await self._until(self._line_end)
        headers = _headers(await self._head())
        coding = str(headers.get("content-transfer-encoding", "binary")).lower()
        if coding not in ("binary", "8bit", "7bit"):
            raise errors.invalid(f'The media part has Content-Transfer-Encoding "{coding}"; send it as binary')
        return headers.get("content-type")

    async def media(self) -> AsyncIterator[bytes]:
        mark = self._line_end + self._mark
        while (at := self._held.find(mark)) < 0:
            # The mark may have come in part.
            sure = len(self._held) - len(mark) + 1
            if sure > 0:
                yield self._held[:sure]
                self._held = self._held[sure:]
            await self._more()
        yield self._held[:at]
        self._held = self._held[at + len(mark) :]
        while len(self._held) < len(b"--"):
            await self._more()
        if not self._held.startswith(b"--"):
            raise errors.invalid("The multipart body has more than two parts.")
        async for _ in self._stream:
            pass

    async def _head(self) -> bytes:
        """A part's headers; it may have none, and starts with the empty line then."""
        while len(self._held) < len(self._line_end):
            await self._more()
        none = self._held.startswith(self._line_end)
        return await self._until(self._line_end * (1 if none else 2))

    async def _until(self, mark: bytes) -> bytes:
        """What comes before the mark, which is dropped."""
        while (at := self._held.find(mark)) < 0:
            if len(self._held) > _HEAD_BYTES:
                raise errors.too_large(f"The multipart body's resource has more than {_HEAD_BYTES} bytes.")
            await self._more()
        found, self._held = self._held[:at], self._held[at + len(mark) :]
        return found

    async def _more(self) -> None:
        try:
            self._held += await self._stream.__anext__()
        except StopAsyncIteration:
            raise errors.invalid("The multipart body ended before its last boundary.") from None


def _headers(data: bytes) -> email.message.Message:
    return email.parser.BytesHeaderParser().parsebytes(data)
