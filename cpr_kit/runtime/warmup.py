"""Requests that the model answers before it is ready, so that no caller pays for what only the first one costs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import StartError
from cpr_kit.runtime import faults, trace
from cpr_kit.runtime.steps import Call, Reply

if TYPE_CHECKING:
    from cpr_kit.runtime.model import Model
    from cpr_kit.runtime.settings import Settings

logger = logging.getLogger("cpr_kit")

_TYPES = {
    ".json": b"application/json",
    ".jsonl": b"application/jsonl",
    ".csv": b"text/csv",
    ".npy": b"application/x-npy",
    ".jpg": b"image/jpeg",
    ".jpeg": b"image/jpeg",
    ".png": b"image/png",
}


async def run(model: Model, settings: Settings) -> None:
    """Ask each file of `settings.warmup` once. Raises StartError when one is not there or not answered."""
    for name in settings.warmup:
        body = _read(name)
        content_type = _TYPES.get(Path(name).suffix.lower(), b"application/octet-stream")
        try:
            status = await _asked(model, body, content_type, settings)
        except Exception as error:
            status = faults.respond(error).status_code
            raise _unanswered(name, status) from error
        if status >= 400:  # noqa: PLR2004
            raise _unanswered(name, status)


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise StartError(
            f'warm-up request "{name}" cannot be read: {error.strerror}',
            "name a file of the project under [serve] warmup, relative to cpr.toml",
        ) from error


async def _asked(model: Model, body: bytes, content_type: bytes, settings: Settings) -> int:
    headers = [(b"content-type", content_type)]
    if model.reads_whole_requests:
        call = Call(body, dict(headers), max_body=settings.max_body, traced=trace.of(headers))
        reply = await model.predict(call)
        if not isinstance(reply, Reply):
            async for _ in reply.chunks(model.thread):
                pass
        return 200
    path = settings.serving.predict_route
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    response = await model.handle(scope, body, _nothing_more, send)
    return response.status_code if response is not None else sent[0]["status"]


async def _nothing_more() -> dict[str, str]:
    return {"type": "http.disconnect"}


def _unanswered(name: str, status: int) -> StartError:
    return StartError(
        f'the model answered {status} to its warm-up request "{name}"',
        "mend the model or the file; a traceback, if the model failed, is above",
    )
