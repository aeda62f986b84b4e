"""One batch's way to the model's container: the body, the attempts, and its predictions.

"Exceeded retries: Non-OK result ..." is as people report it of errors_stats files; the words for a 200 that
has no predictions are UNCONFIRMED.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from cpr_kit.emulator.batch.rows import BadRow, Row, decode
from cpr_kit.emulator.errors import ApiError

Ask = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""Posts one body to a container of the model; gives its status and its body."""

_OK = 200
_SHOWN = 1000
_FAILS = "Post request fails. Cannot get predictions. Error: "


class BatchFailed(Exception):
    """All rows of the batch are lost; `str(error)` is what errors_stats counts."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    ask: Ask
    attempts: int
    timeout_s: float
    """Of one attempt."""
    backoff_s: float
    """Before the second attempt, and twice as long before each further one."""

    async def post(self, body: bytes) -> bytes:
        """Whatever is not a 200 is tried again, 4xx too: reports of 400 say "retry=3" as well."""
        said = ""
        for attempt in range(self.attempts):
            if attempt:
                await asyncio.sleep(self.backoff_s * 2 ** (attempt - 1))
            start = time.monotonic()
            status, answer = await self._attempt(body)
            if status == _OK:
                return answer
            elapsed = time.monotonic() - start
            said = (
                f"Non-OK result {status} ({_shown(answer)}) from server, retry={attempt + 1}, elapsed={elapsed:.2f}s."
            )
        raise BatchFailed(f"{_FAILS}Exceeded retries: {said}")

    async def _attempt(self, body: bytes) -> tuple[int, bytes]:
        try:
            return await asyncio.wait_for(self.ask(body), self.timeout_s)
        except (asyncio.TimeoutError, TimeoutError):
            return 504, b"upstream request timeout"
        except ApiError as error:
            return error.http_status, error.message.encode()
        except (OSError, aiohttp.ClientError) as error:
            return 503, (str(error) or type(error).__name__).encode(errors="replace")


def parameters_text(value: Any) -> str | None:
    """The job's model_parameters as JSON; None where there are none, and then the body has no `parameters`.

    Numbers are a google.protobuf.Value's, so the container gets floats.
    """
    plain = plain_value(value)
    return None if plain is None else json.dumps(plain)


def plain_value(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {name: plain_value(field) for name, field in value.struct_value.fields.items()}
    if kind == "list_value":
        return [plain_value(item) for item in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def body(rows: Sequence[Row], parameters: str | None) -> bytes:
    instances = ", ".join(row.instance for row in rows)
    end = "" if parameters is None else f', "parameters": {parameters}'
    return f'{{"instances": [{instances}]{end}}}'.encode()


@dataclass(frozen=True, kw_only=True)
class Answer:
    predictions: list[Any]
    trap: str = ""
    """Why they are hardly what the model meant."""


def answer_of(text: bytes, count: int) -> Answer:
    """By position, of whatever `predictions` holds: an object gives its keys, as in the service (medgemma#80)."""
    try:
        value = decode(text)
    except BadRow as bad:
        raise BatchFailed(f"{_FAILS}The response is not JSON {bad.detail}. Got: {_shown(text)}") from None
    if not isinstance(value, dict) or "predictions" not in value:
        raise BatchFailed(f"{_FAILS}Predictions are not in the response. Got: {_shown(text)}")
    found = value["predictions"]
    if not isinstance(found, (list, dict, str)):
        raise BatchFailed(f"{_FAILS}The response's predictions are no list. Got: {_shown(text)}")
    if len(found) < count or (isinstance(found, list) and len(found) > count):
        raise BatchFailed(f"{_FAILS}The number of predictions ({len(found)}) is not that of instances ({count}).")
    return Answer(predictions=list(found)[:count], trap=_TRAPS.get(type(found), ""))


_TRAPS = {
    dict: "The container's predictions are an object and not a list: the output has its keys as predictions.",
    str: "The container's predictions are a string and not a list: the output has its characters as predictions.",
}


def _shown(text: bytes) -> str:
    return text.decode(errors="replace")[:_SHOWN]
