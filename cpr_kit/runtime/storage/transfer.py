"""Objects into a folder: many at once, large ones in pieces, each verified before it gets its name."""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import shutil
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cpr_kit.errors import StartError
from cpr_kit.runtime.storage import checksum, listing, room
from cpr_kit.runtime.storage.client import CHUNK, Client
from cpr_kit.runtime.storage.listing import Blob
from cpr_kit.runtime.storage.patience import Passing, Watch
from cpr_kit.runtime.storage.progress import Progress

logger = logging.getLogger("cpr_kit")

STREAMS = 16
PIECE = 32 << 20
_DAMAGED_TRIES = 3


@dataclass(frozen=True)
class Piece:
    """Bytes `start` to `end` of one object; `number` counts through the whole download."""

    number: int
    start: int
    end: int


@dataclass(eq=False)
class _Item:
    """One object on its way: into `part` first, which becomes `target` when it is whole and verified."""

    blob: Blob
    target: Path
    part: Path
    pieces: list[Piece]
    missing: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Transfer:
    """Objects of one bucket into `folder`/files. What is there already is kept if it is what the bucket has."""

    def __init__(self, client: Client, blobs: Sequence[Blob], folder: Path) -> None:
        self._client = client
        self._folder = folder
        files, parts = folder / "files", folder / "parts"
        paths = listing.targets(blobs, files)
        self._items: list[_Item] = []
        number = 0
        for blob, path in zip(blobs, paths, strict=True):
            cuts = _pieces(blob.size, number)
            number += len(cuts)
            self._items.append(_Item(blob, path, parts / str(len(self._items)), cuts, len(cuts)))
        self._count = number
        self._progress: Progress | dict[int, int] = defaultdict(int)

    @property
    def uris(self) -> list[str]:
        return [item.blob.uri for item in self._items]

    def damage(self) -> str | None:
        """What is missing or differs among the files; None when all is as the bucket says. Reads every byte."""
        found: list[str] = []
        work(self._client.watch, (partial(self._judge, item, found) for item in self._items))
        return min(found, default=None)

    def _judge(self, item: _Item, found: list[str]) -> None:
        try:
            problem = _problem(item)
        except OSError as error:
            problem = str(error)
        if problem is not None:
            found.append(f"{item.target}: {problem}")

    def complete(self) -> int:
        """Fetch what is missing; the number of bytes fetched. Raises StartError; what has come by then is kept."""
        _warn_of_unverified(item.blob for item in self._items)
        with room.translated(self._folder, self._left), contextlib.closing(self._open_progress()) as progress:
            self._progress = progress
            left = self._left()
            room.check(self._folder, left)
            # Largest first, so that no long piece is left to one thread at the end.
            items = sorted(self._items, key=lambda item: -item.blob.size)
            work(self._client.watch, (task for item in items for task in self._tasks(item)))
        (self._folder / "progress").unlink()
        shutil.rmtree(self._folder / "parts")
        return left

    def _open_progress(self) -> Progress:
        for name in ("files", "parts"):
            (self._folder / name).mkdir(mode=0o700, exist_ok=True)
        progress = Progress(self._folder / "progress", self._count)
        for item in self._items:
            size = item.part.stat().st_size if item.part.exists() else 0
            for piece in item.pieces:
                if progress[piece.number] > max(0, min(piece.end, size) - piece.start):
                    progress[piece.number] = 0
        return progress

    def _left(self) -> int:
        """Bytes that are still to be fetched."""
        return sum(
            piece.end - piece.start - self._progress[piece.number]
            for item in self._items
            if not item.target.exists()
            for piece in item.pieces
        )

    def _tasks(self, item: _Item) -> list[Callable[[], None]]:
        if item.target.exists():
            return [partial(self._again_if_damaged, item)]
        return [partial(self._fetch_one, item, piece) for piece in item.pieces] or [partial(self._finish, item)]

    def _again_if_damaged(self, item: _Item) -> None:
        """A file that an earlier process left under its name."""
        if _problem(item) is not None:
            self._restart(item)
            self._finish(item)

    def _fetch_one(self, item: _Item, piece: Piece) -> None:
        self._fetch(item, piece)
        with item.lock:
            item.missing -= 1
            last = not item.missing
        if last:
            self._finish(item)

    def _fetch(self, item: _Item, piece: Piece) -> None:
        """Go on where the piece ends so far, until it is whole."""
        tries = self._client.tries()
        with _opened(item.part) as file:
            at = piece.start + self._progress[piece.number]
            while at < piece.end:
                try:
                    for data in self._client.stream(item.blob, at, piece.end):
                        _write(file, data, at)
                        at += len(data)
                        self._progress[piece.number] = at - piece.start
                        tries.progressed()
                except Passing as error:
                    tries.failed(error)

    def _finish(self, item: _Item) -> None:
        """Verify the object, and give it its name. One that is damaged is fetched anew before it is given up."""
        if not item.pieces:
            item.part.touch(mode=0o600)
        for _ in range(_DAMAGED_TRIES):
            problem = checksum.difference(item.part, item.blob) if item.part.exists() else "is not there"
            if problem is None:
                _place(item)
                return
            logger.warning("%s arrived damaged: %s", item.blob.uri, problem)
            self._restart(item)
        raise StartError(f"{item.blob.uri} arrived damaged, {_DAMAGED_TRIES} times: {problem}", "upload it again")

    def _restart(self, item: _Item) -> None:
        item.part.unlink(missing_ok=True)
        for piece in item.pieces:
            self._progress[piece.number] = 0
        for piece in item.pieces:
            self._fetch(item, piece)


def work(watch: Watch, tasks: Iterable[Callable[[], None]]) -> None:
    """Run the tasks in STREAMS threads. The first that raises stops the others, and its error is raised here.

    Daemons, not an executor: its threads finish all that is queued before the interpreter may end, and a
    server that is told to stop while it loads must not download the rest first.
    """
    queue = deque(tasks)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            while not errors:
                try:
                    task = queue.popleft()
                except IndexError:
                    return
                task()
        except BaseException as error:  # noqa: BLE001  raised below, in the caller's thread
            errors.append(error)
            watch.stop()

    threads = [threading.Thread(target=run, name="artifacts", daemon=True) for _ in range(min(STREAMS, len(queue)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        watch.stop()
        raise
    if errors:
        raise errors[0]


def _pieces(size: int, number: int) -> list[Piece]:
    starts = range(0, size, PIECE)
    return [Piece(number + i, start, min(start + PIECE, size)) for i, start in enumerate(starts)]


def _problem(item: _Item) -> str | None:
    """What differs in a file under its final name. One that was unpacked has no checksum to be compared with."""
    if not item.target.is_file():
        return "it is not there"
    return None if item.blob.gzipped else checksum.difference(item.target, item.blob)


def _place(item: _Item) -> None:
    """The file gets its name in one step, so that under it there is never half of it."""
    item.target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if item.blob.gzipped:
        plain = item.part.with_name(f"{item.part.name}.plain")
        try:
            with gzip.open(item.part) as source, plain.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK)
        except (EOFError, gzip.BadGzipFile) as error:
            raise StartError(f"{item.blob.uri} says that it is gzip, and is not: {error}", "upload it again") from error
        item.part.unlink()
        item.part = plain
    item.part.replace(item.target)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _write(file: int, data: memoryview, at: int) -> None:
    """All of it: near the end of a disk, a write may take a part without an error."""
    while data:
        count = os.pwrite(file, data, at)
        data, at = data[count:], at + count


def _warn_of_unverified(blobs: Iterable[Blob]) -> None:
    names = [blob.uri for blob in blobs if checksum.chosen(blob) is None]
    if names:
        logger.warning("%d objects cannot be verified, %s first: pip install google-crc32c", len(names), names[0])
