"""What is done to one request: from bytes to what `predict` takes, and from its answer to bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpr_kit.contract import MAX_BODY
from cpr_kit.runtime import streaming, trace
from cpr_kit.runtime.codecs import table
from cpr_kit.runtime.serializer import JSON, Serializer, media_type
from cpr_kit.runtime.thread import called, is_awaitable

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

QUEUE, PREPROCESS, PREDICT, POSTPROCESS = range(4)


@dataclass(frozen=True)
class Reply:
    """A whole answer, encoded."""

    body: bytes
    content_type: str
    encoding: str | None = None


class Call:
    """One request inside the model. `headers` are lower-case names and values as they came.

    `settle` is called with it on the loop `home` when it has its reply or its error, unless it was abandoned.
    """

    __slots__ = (
        "abandoned", "answer", "body", "error", "headers", "home", "mark", "max_body", "reply", "settle", "spent",
        "task", "trace", "value",
    )  # fmt: skip

    def __init__(
        self,
        body: bytes,
        headers: Mapping[bytes, bytes],
        *,
        max_body: int,
        traced: trace.Trace,
        home: asyncio.AbstractEventLoop | None = None,
        settle: Callable[[Call], None] | None = None,
    ) -> None:
        self.body, self.headers, self.max_body, self.trace = body, headers, max_body, traced
        self.home = home or asyncio.get_running_loop()
        self.settle = settle
        self.abandoned = False
        self.value: Any = None
        self.answer: Any = None
        self.error: Exception | None = None
        self.reply: Reply | streaming.Stream | None = None
        self.task: asyncio.Task[None] | None = None
        self.spent = [0.0, 0.0, 0.0, 0.0]
        self.mark = time.perf_counter()

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def spend(self, step: int) -> float:
        """The time since the last step was this one's."""
        now = time.perf_counter()
        took = now - self.mark
        self.spent[step] += took
        self.mark = now
        return took


class Steps:
    """The author's predictor between two codecs: what is done to each request by itself."""

    def __init__(self, predictor: Any, serializer: type[Serializer] | None) -> None:
        self.predictor = predictor
        self.serializer = serializer
        if serializer is None and hasattr(predictor, "arrays_are_written"):
            predictor.arrays_are_written = True
        self._wants = table.Wants(
            array=_wants_array(type(predictor)),
            media_types=tuple(getattr(predictor, "media_types", ())),
            names=getattr(getattr(predictor, "signature", None), "names", None),
        )

    def prepare(self, call: Call) -> Awaitable[None] | None:
        """From bytes to what `predict` takes. What is to be awaited comes back: there is nothing for sync code."""
        body = table.inflate(call.body, call.header(b"content-encoding"), call.max_body)
        content_type = call.header(b"content-type")
        if self.serializer is None:
            value = table.decode(body, content_type, self._wants)
        else:
            value = self.serializer.deserialize(body, media_type(content_type))
        value = self.predictor.preprocess(value)
        if is_awaitable(value):
            return _prepared(call, value)
        call.value = value
        return None

    def finish(self, call: Call) -> Awaitable[None] | None:
        """From the answer of `predict` to bytes, or to a stream of them; awaited as `prepare` is."""
        if streaming.is_stream(call.answer):
            accept = call.header(b"accept")
            call.reply = streaming.Stream(call.answer, self.predictor.postprocess, accept)
            return None
        result = self.predictor.postprocess(call.answer)
        if is_awaitable(result):
            return self._finished(call, result)
        self._encode(call, result)
        return None

    async def _finished(self, call: Call, result: Awaitable[Any]) -> None:
        self._encode(call, await result)

    def _encode(self, call: Call, result: Any) -> None:
        accept = call.header(b"accept")
        if streaming.is_stream(result):
            call.reply = streaming.Stream(result, None, accept)
            return
        if self.serializer is None:
            body, content_type = table.encode(result, accept)
        else:
            content = self.serializer.serialize(result, accept)
            body = content if isinstance(content, bytes) else str(content).encode()
            content_type = getattr(self.serializer, "media_type", JSON)
            if content_type.startswith("text/") and "charset=" not in content_type:
                content_type += "; charset=utf-8"
        call.reply = Reply(*_shrunk(body, content_type, call.header(b"accept-encoding")))


async def _prepared(call: Call, value: Awaitable[Any]) -> None:
    call.value = await value


def _shrunk(body: bytes, content_type: str, accept_encoding: str | None) -> tuple[bytes, str, str | None]:
    if accept_encoding is None:
        return body, content_type, None
    body, encoding = table.deflate(body, accept_encoding)
    return body, content_type, encoding


def _wants_array(cls: type) -> bool:
    """Whether `preprocess` takes instances as an array: said by the class that wrote it, or one derived later."""
    for ancestor in cls.__mro__:
        if "wants_array" in vars(ancestor):
            return bool(vars(ancestor)["wants_array"])
        if "preprocess" in vars(ancestor):
            return False
    return False


async def _nothing() -> None:
    pass


async def respond(steps: Steps, request: Request) -> Response:
    """All of it for one request of a handler of the author's own."""
    from starlette.responses import Response, StreamingResponse

    body = await request.body()
    headers = dict(request.scope["headers"])
    call = Call(body, headers, max_body=max(MAX_BODY.values()), traced=trace.current.get() or trace.of([]))
    await (steps.prepare(call) or _nothing())
    call.answer = await called(steps.predictor.predict, call.value)
    await (steps.finish(call) or _nothing())
    reply = call.reply
    assert reply is not None
    if isinstance(reply, Reply):
        encoding = {"content-encoding": reply.encoding} if reply.encoding else None
        return Response(reply.body, headers=encoding, media_type=reply.content_type)
    chunks = reply.here()
    first = await anext(chunks, b"")
    return StreamingResponse(streaming.resumed(first, chunks), media_type=reply.content_type)
