"""Both sides asked the same, one answer for each request; and who no longer answers is asked no more."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cpr_kit.compare import figures
from cpr_kit.compare.figures import Row
from cpr_kit.compare.requests import Request
from cpr_kit.deploy.predict.asking import UNREACHED, Answer
from cpr_kit.errors import MissingExtra, UsageError
from cpr_kit.harness.reasons import innermost
from cpr_kit.harness.target import Target

if TYPE_CHECKING:
    import requests

Ask = Callable[[Request], Answer]

CONNECTIONS = 64
"""Of one side, kept open; as many requests can be on their way at once."""
_TOGETHER = 4
_GIVEN_UP = 5
_TIMEOUT = 504
_HERE = ("127.0.0.1", "localhost", "::1")
_LONGEST_INT = 300


class Server:
    """A URL asked over kept connections, as an endpoint is: what both kinds of a side cost is the same."""

    def __init__(self, target: Target) -> None:
        self._url = target.base_url + target.predict_route
        self._shown = self._url.partition("?")[0]  # what follows may be a key
        self._timeout_s = target.timeout_s
        self._session = _session(self._url)

    def __enter__(self) -> Server:  # noqa: PYI034  typing.Self is not in Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Its connections; the next request opens one again."""
        self._session.close()

    def __call__(self, request: Request) -> Answer:
        import requests

        headers = {"Content-Type": request.content_type}
        began = time.perf_counter()
        try:
            response = self._session.post(
                self._url, data=request.body, headers=headers, timeout=self._timeout_s, allow_redirects=False
            )
        except requests.Timeout:
            return _none(_TIMEOUT, f"{self._shown} gave no answer within {self._timeout_s:g} s", began)
        except requests.ConnectionError as error:
            reason = innermost(error)
            return _none(UNREACHED, f"{self._shown} could not be reached, or closed the connection: {reason}", began)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            return _none(
                UNREACHED,
                f"{self._shown}: the answer broke off, or cannot be decoded: {innermost(error)}",
                began,
            )
        except (requests.RequestException, ValueError) as error:
            raise UsageError(f"POST {self._shown} cannot be sent: {error}") from error
        return Answer(
            status=response.status_code,
            body=response.content,
            content_type=response.headers.get("Content-Type", ""),
            deployed_model="",
            seconds=time.perf_counter() - began,
        )


def _session(url: str) -> requests.Session:
    try:
        import requests
        from requests.adapters import HTTPAdapter
    except ImportError as error:
        raise MissingExtra("requests", "local") from error
    session = requests.Session()
    # A proxy of the environment cannot reach this machine's own 127.0.0.1, so it is not asked.
    session.trust_env = urlsplit(url).hostname not in _HERE
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
    return session


def _none(status: int, words: str, began: float) -> Answer:
    seconds = time.perf_counter() - began
    return Answer(status=status, body=words.encode(), content_type="text/plain", deployed_model="", seconds=seconds)


class Guard:
    """One side, until nothing has come back five times in a row: a request to it would only wait again."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._lost = 0

    @property
    def gave_up(self) -> bool:
        return self._lost >= _GIVEN_UP

    def __call__(self, request: Request) -> Answer:
        if self.gave_up:
            words = f"not asked: the {_GIVEN_UP} requests before it were not answered"
            return _none(UNREACHED, words, time.perf_counter())
        answer = self._ask(request)
        with self._lock:
            lost = answer.status in (UNREACHED, _TIMEOUT)
            if not self.gave_up:
                self._lost = self._lost + 1 if lost else 0
        return answer


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An answer that is an error. `status` is 0 where none came."""

    side: str
    where: str
    status: int
    message: str


def asked(ask: Ask, requests: Sequence[Request]) -> list[Answer]:
    """Four requests at once; the answers in the requests' order."""
    with ThreadPoolExecutor(_TOGETHER) as pool:
        return list(pool.map(ask, requests))


def judged(requests: Sequence[Request], a: Sequence[Answer], b: Sequence[Answer]) -> tuple[list[Row], list[Failure]]:
    """Rows of what both have answered, and every error of either."""
    rows: list[Row] = []
    failures: list[Failure] = []
    for request, one, other in zip(requests, a, b, strict=True):
        failures += [
            Failure(side=side, where=request.name, status=answer.status, message=answer.message)
            for side, answer in (("A", one), ("B", other))
            if not answer.ok
        ]
        if one.ok and other.ok:
            rows += rows_of(request, one.body, other.body)
    return rows, failures


def rows_of(request: Request, a: bytes, b: bytes) -> list[Row]:
    """A row for each prediction; one for the whole where the replies are no lists of predictions."""
    try:
        return _rows_of(request, a, b)
    except RecursionError:
        return [Row(where=request.name, request=request.name, fault="an answer is nested too deeply to be compared")]


def _rows_of(request: Request, a: bytes, b: bytes) -> list[Row]:
    replies = []
    for body in (a, b):
        try:
            replies.append(parsed(body))
        except ValueError:
            return [_of_bytes(request, a, b)]
    one, other = map(figures.predictions, replies)
    if one is None or other is None or one[0] != other[0]:
        whole = [figures.bare(reply) for reply in replies]
        return [figures.row(whole[0], whole[1], where=request.name, request=request.name)]
    at, mine, theirs = one[0], one[1], other[1]
    if len(mine) != len(theirs):
        fault = f"{at}: {figures.counted(mine, theirs)}"
        return [Row(where=request.name, request=request.name, fault=fault)]
    return [
        figures.row(
            left,
            right,
            where=request.where(index),
            request=request.name,
            instance=index,
            at=f"{at}[{index}]",
        )
        for index, (left, right) in enumerate(zip(mine, theirs, strict=True))
    ]


def parsed(body: bytes) -> Any:
    """JSON with the NaN and Infinity that servers write; an integer beyond a float's range is infinite."""
    return json.loads(body, parse_int=lambda text: int(text) if len(text) < _LONGEST_INT else float(text))


def _of_bytes(request: Request, a: bytes, b: bytes) -> Row:
    same = a == b
    fault = "" if same else f"answers that are no JSON differ: A has {_start(a)}, B has {_start(b)}"
    return Row(where=request.name, request=request.name, fault=fault)


def _start(body: bytes) -> str:
    text = body[:60].decode(errors="replace")
    return figures.shown(text) + (f" and {len(body) - 60:,} bytes more" if len(body) > 60 else "")  # noqa: PLR2004
