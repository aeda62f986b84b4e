"""A predict that yields: each piece leaves as it is made.

Pieces are bytes as they are, text as text, and anything else as a line of JSON; as server-sent events when the
caller accepts `text/event-stream`. The generator runs in the model's thread, one piece at a time, and is closed
as soon as its client has gone.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from cpr_kit.errors import RequestError
from cpr_kit.runtime.serializer import accepts, dumps
from cpr_kit.runtime.thread import ModelThread, called, guarded

EVENTS = "text/event-stream"
_LINES = "application/jsonl"
_END = object()


def is_stream(value: Any) -> bool:
    return inspect.isgenerator(value) or inspect.isasyncgen(value)


class Stream:
    """The pieces of one answer, encoded. `postprocess` is called for each piece."""

    def __init__(self, pieces: Any, postprocess: Callable[[Any], Any] | None, accept: str | None) -> None:
        self._pieces = pieces
        self._postprocess = postprocess
        self._accept = accept
        self._step = asyncio.Lock()
        self.content_type = EVENTS if accept and EVENTS in accept and accepts(accept, EVENTS) else ""

    async def here(self) -> AsyncGenerator[bytes, None]:
        """The chunks, pulled in the model's thread itself."""
        try:
            while (chunk := await self._next()) is not None:
                yield chunk
        finally:
            await self._close()

    async def chunks(self, thread: ModelThread) -> AsyncGenerator[bytes, None]:
        """Pulled by the server's loop. Raises what the author's code raised; the generator is closed in any case."""
        try:
            while (chunk := await thread.run(self._next)) is not None:
                yield chunk
        finally:
            thread.call_soon(lambda: thread.start(self._close()))

    def failed(self) -> bytes:
        """The last chunk of a stream that breaks: what can be said in its own form. The connection ends after it."""
        told = dumps({"error": {"code": 500, "status": "INTERNAL", "message": "the stream broke off"}})
        if self.content_type == EVENTS:
            return event(told.decode(), "error")
        return told + b"\n" if self.content_type == _LINES else b""

    async def _next(self) -> bytes | None:
        """In the model's thread: the next chunk, or None at the end."""
        async with self._step:
            piece = await guarded(self._piece())
        if piece is _END:
            return None
        if self._postprocess is not None:
            piece = await called(self._postprocess, piece)
        if not self.content_type:
            self._choose(piece)
        return self._encoded(piece)

    async def _piece(self) -> Any:
        if inspect.isasyncgen(self._pieces):
            return await anext(self._pieces, _END)
        return next(self._pieces, _END)

    def _choose(self, piece: Any) -> None:
        """The first piece decides. Raises RequestError 406 when the caller does not take it."""
        content_type = _LINES
        if isinstance(piece, str):
            content_type = "text/plain; charset=utf-8"
        elif isinstance(piece, bytes):
            content_type = "application/octet-stream"
        if not accepts(self._accept, content_type.partition(";")[0]) and not accepts(self._accept, "application/json"):
            raise RequestError(f'the request accepts "{self._accept}"; this model streams {content_type}', 406)
        self.content_type = content_type

    def _encoded(self, piece: Any) -> bytes:
        if self.content_type == _LINES:
            return dumps(piece) + b"\n"
        data = piece if isinstance(piece, bytes) else piece.encode() if isinstance(piece, str) else dumps(piece)
        return event(data.decode(errors="replace")) if self.content_type == EVENTS else data

    async def _close(self) -> None:
        async with self._step:  # a step that was cancelled a moment ago may not have ended yet
            if inspect.isasyncgen(self._pieces):
                await guarded(self._pieces.aclose())
            else:
                self._pieces.close()


async def resumed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks again, after the first was pulled to see whether there is one."""
    yield first
    async for chunk in rest:
        yield chunk


def event(data: str, name: str = "") -> bytes:
    """A server-sent event: one `data:` line for each line of the text (WHATWG HTML, 9.2.6)."""
    head = f"event: {name}\n" if name else ""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"{head}{lines}\n".encode()
