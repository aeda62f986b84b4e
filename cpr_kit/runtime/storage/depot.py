"""Downloaded artifacts, kept once a machine: the first process downloads, the others wait and use the same files.

    TMPDIR/cpr-artifacts-UID/          0700, ours
        KEY.lock                       exclusive: someone downloads; shared: someone serves from it
        KEY/files/                     what fetch returns; a file here is whole and verified
        KEY/parts/, KEY/progress       of a download under way, or of one that was killed: the next goes on
        KEY/manifest.json              written last: all of it is here

KEY stands for the URI and for each object's generation, so what is written into the bucket anew is fetched anew.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cpr_kit.errors import StartError
from cpr_kit.runtime.storage import listing
from cpr_kit.runtime.storage.client import Client
from cpr_kit.runtime.storage.listing import Blob
from cpr_kit.runtime.storage.patience import Patience
from cpr_kit.runtime.storage.room import NoRoom
from cpr_kit.runtime.storage.transfer import Transfer

logger = logging.getLogger("cpr_kit")

SCHEME = "gs://"
_LOOK_AGAIN_S = 0.05
_FORGOTTEN_S = 24 * 60 * 60
_keepers: list[int] = []


def fetch(uri: str, environ: Mapping[str, str] = os.environ, *, patience: Patience | None = None) -> Path:
    """The folder that holds what the gs:// URI names: each file verified against the bucket, now.

    It is removed when the last process that fetched it ends, or the one that called `keep`. Raises StartError.
    """
    bucket, _, path = uri.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise StartError(f'"{uri}" names no bucket', "write gs://BUCKET/FOLDER")
    with contextlib.closing(Client(bucket, environ, patience=patience)) as client:
        blobs = listing.find(client, path)
        place = _Place(_root() / _key(client.base, uri, blobs))
        lock = _Lock(place.folder.with_suffix(".lock"))
        try:
            _fill(place, lock, Transfer(client, blobs, place.folder), client)
        except BaseException as error:
            if isinstance(error, NoRoom):  # a full disk is not left full
                place.remove()
            lock.close()
            raise
    if not _keepers or _keepers[-1] == os.getpid():
        atexit.register(_leave, place, lock, os.getpid())
    else:
        os.utime(lock.path)  # by which the keeper knows what its workers fetched
    return place.files


def keep() -> None:
    """Called before workers are forked: what they fetch outlives each of them, and goes when this process ends."""
    _keepers.append(os.getpid())
    atexit.register(_remove_since, time.time() - 1, os.getpid())


class _Place:
    """The files of one key, in a private folder of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "files"
        self._manifest = folder / "manifest.json"

    def make(self) -> None:
        _make_private(self.folder)

    def is_finished(self) -> bool:
        return self._manifest.exists()

    def finish(self, uris: Sequence[str]) -> None:
        new = self._manifest.with_suffix(".new")
        new.write_text(json.dumps(list(uris)))
        new.replace(self._manifest)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class _Lock:
    """flock on a file that may be removed by its last holder. The kernel lets go of a killed process's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def take(self, kind: int) -> bool:
        """Whether this process now has the lock, LOCK_EX or LOCK_SH; instead of the one that it had."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
            if os.fstat(self._file).st_ino == self.path.stat().st_ino:
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        self.close()
        return False

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _fill(place: _Place, lock: _Lock, transfer: Transfer, client: Client) -> None:
    """Until the place holds all files, verified by this process, and this process has its shared lock."""
    verified = False
    while True:
        client.watch.check()
        if place.is_finished():
            if not lock.take(fcntl.LOCK_SH) or not place.is_finished():
                client.watch.wait(_LOOK_AGAIN_S)
                continue
            damage = None if verified else transfer.damage()
            if damage is None:
                return
            if not lock.take(fcntl.LOCK_EX):
                raise StartError(
                    f"the downloaded file {damage}, and another process serves from it",
                    "stop that process, or set TMPDIR to another folder",
                )
            logger.warning("the downloaded file %s: fetching it again", damage)
        elif not lock.take(fcntl.LOCK_EX):
            client.watch.wait(_LOOK_AGAIN_S)
            continue
        _download(place, transfer, client)
        verified = True


def _download(place: _Place, transfer: Transfer, client: Client) -> None:
    """With the exclusive lock held."""
    began, began_at = time.monotonic(), time.time()
    # What killed processes left.
    _sweep(place.folder.parent, lambda used: used < began_at - _FORGOTTEN_S)
    place.make()
    size = transfer.complete()
    place.finish(transfer.uris)
    seconds = time.monotonic() - began
    logger.info(
        "fetched %.1f MB of artifacts from gs://%s in %.2f s, %.0f MB/s",
        size / 1e6,
        client.bucket,
        seconds,
        size / 1e6 / max(seconds, 1e-9),
    )


def _key(base: str, uri: str, blobs: Sequence[Blob]) -> str:
    told = json.dumps([base, uri, [(blob.name, blob.generation, blob.size, blob.crc32c, blob.md5) for blob in blobs]])
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _root() -> Path:
    root = Path(tempfile.gettempdir()) / f"cpr-artifacts-{os.geteuid()}"
    _make_private(root)
    return root


def _make_private(folder: Path) -> None:
    """Make it, or take the one that is there if nobody else can have put anything into it. Raises StartError."""
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        state = folder.lstat()
    except OSError as error:
        raise StartError(
            f"no folder for the artifacts can be made at {folder}: {error.strerror}",
            "set TMPDIR to a folder that the container's user may write into",
        ) from error
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & 0o077:
        raise StartError(
            f"{folder} is not a folder of this user's alone "
            f"(owner {state.st_uid}, mode {stat.S_IMODE(state.st_mode):o})",
            "others could have put files there: remove it, or set TMPDIR to another folder",
        )


def _leave(place: _Place, lock: _Lock, pid: int) -> None:
    """At the end of the process that fetched; a forked child has this registered too, and must leave the files."""
    if os.getpid() == pid:
        _remove_if_unused(place, lock)


def _remove_if_unused(place: _Place, lock: _Lock) -> None:
    with contextlib.suppress(OSError):
        if lock.take(fcntl.LOCK_EX):
            place.remove()
            lock.path.unlink()
    lock.close()


def _remove_since(began: float, pid: int) -> None:
    if os.getpid() == pid:
        _sweep(_root(), lambda used: used >= began)


def _sweep(root: Path, chosen: Callable[[float], bool]) -> None:
    """Remove what nobody uses, of those whose time of last use is `chosen`."""
    for path in root.glob("*.lock"):
        with contextlib.suppress(OSError):
            if chosen(path.stat().st_mtime):
                _remove_if_unused(_Place(path.with_suffix("")), _Lock(path))
