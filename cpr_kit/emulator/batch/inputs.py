"""A batch job's input files: the URIs and wildcards of gcsSource, and their rows in batches for the workers.

Wildcards are those of "URI wildcards" of Cloud Storage: `*` within a folder, `**` across folders, `?`, `[...]`.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cpr_kit.emulator.batch.readers import Format, Source
from cpr_kit.emulator.batch.rows import Bad, InstanceConfig, Row
from cpr_kit.emulator.errors import ApiError
from cpr_kit.tfrecord import BrokenFile

_WILDCARD = re.compile(r"\*\*|\*|\?|\[[^\]/]+\]")
_FORMS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
_BAD_ROWS = 1000


class Storage(Protocol):
    """What a job needs of the Depot."""

    def exists(self, uri: str) -> bool: ...
    def list(self, uri_prefix: str) -> list[str]: ...
    def open(self, uri: str) -> BinaryIO: ...
    def read(self, uri: str) -> bytes: ...
    def delete(self, uri: str) -> None: ...
    def upload_folder(self, folder: Path, target: str) -> int: ...


def files(uris: Sequence[str], storage: Storage) -> list[str]:
    """The input files in order, each once. A URI that names nothing is kept: reading it says so."""
    found: dict[str, None] = {}
    for uri in uris:
        found.update(dict.fromkeys(_matches(uri, storage) or [uri]))
    return list(found)


def _matches(uri: str, storage: Storage) -> list[str]:
    wildcard = _WILDCARD.search(uri)
    try:
        if wildcard is None or storage.exists(uri):
            return [uri]
        matches = pattern(uri).fullmatch
        # A name that ends with a slash is the mark of a folder and no file.
        return [name for name in storage.list(uri[: wildcard.start()]) if not name.endswith("/") and matches(name)]
    except ApiError:
        return []


def pattern(uri: str) -> re.Pattern[str]:
    """Raises re.error where the brackets make no sense, as in `[z-a]`."""
    form, position = "", 0
    for wildcard in _WILDCARD.finditer(uri):
        form += re.escape(uri[position : wildcard.start()]) + _form(wildcard.group())
        position = wildcard.end()
    return re.compile(form + re.escape(uri[position:]), re.DOTALL)


def _form(wildcard: str) -> str:
    if wildcard in _FORMS:
        return _FORMS[wildcard]
    inside = wildcard[1:-1]
    negated = "^" if inside[0] in "!^" else ""
    escaped = (mark if mark.isalnum() or mark == "-" else "\\" + mark for mark in inside[len(negated) :])
    return f"[{negated}{''.join(escaped)}]"


@dataclass(frozen=True, kw_only=True)
class Batch:
    rows: Sequence[Row]
    bad: Sequence[Bad]
    broken: Sequence[str] = ()
    """Files that could not be read, or not to their end."""


@dataclass(frozen=True, kw_only=True)
class Input:
    storage: Storage
    format: Format
    config: InstanceConfig
    size: int

    def batches(self, uris: Sequence[str]) -> Generator[Batch, None, None]:
        """Blocking. Batches go across the files, so that all but the last are full."""
        rows: list[Row] = []
        bad: list[Bad] = []
        for item in self._items(uris):
            if isinstance(item, Row):
                rows.append(item)
            elif isinstance(item, Bad):
                bad.append(item)
            else:
                yield Batch(rows=(), bad=(), broken=[item])
            if len(rows) == self.size or len(bad) == _BAD_ROWS:
                yield Batch(rows=rows, bad=bad)
                rows, bad = [], []
        if rows or bad:
            yield Batch(rows=rows, bad=bad)

    def _items(self, uris: Sequence[str]) -> Iterator[Row | Bad | str]:
        for uri in uris:
            try:
                with self._source(uri) as source:
                    yield from self.format.read(source)
            except (BrokenFile, ApiError, OSError) as error:
                yield f"{uri}: {error}"

    @contextmanager
    def _source(self, uri: str) -> Iterator[Source]:
        with self.storage.open(uri) as file:
            yield Source(uri=uri, file=file, config=self.config, fetch=self.storage.read)


Thread = Callable[..., Awaitable[Any]]
"""Calls a function in a thread: `await thread(function, *arguments)`."""


class Feed:
    """Batches that one or several workers take, one after the other."""

    def __init__(self, batches: Generator[Batch, None, None]) -> None:
        self._batches = batches
        self._turn = asyncio.Lock()

    async def take(self, thread: Thread) -> Batch | None:
        async with self._turn:
            batch: Batch | None = await thread(next, self._batches, None)
            return batch

    def close(self) -> None:
        """The open file, if any; no thread may be in it."""
        self._batches.close()


class Supply:
    """Shares the input out: jsonl and file lists by the batch, the formats that cannot be split by the file."""

    def __init__(self, job: Input, uris: Sequence[str]) -> None:
        self._shared = job.format.shared
        parts = [uris] if self._shared else [[uri] for uri in uris]
        self._feeds = [Feed(job.batches(part)) for part in parts]
        self._open = deque(self._feeds)

    def places(self, workers: int) -> int:
        """How many of the workers find work."""
        return workers if self._shared else min(workers, len(self._feeds))

    def next_feed(self) -> Feed | None:
        """Taken off once a worker has it, unless all workers share it."""
        if not self._open:
            return None
        return self._open[0] if self._shared else self._open.popleft()

    def finished(self, feed: Feed) -> None:
        if feed in self._open:
            self._open.remove(feed)

    def close(self) -> None:
        for feed in self._feeds:
            feed.close()
