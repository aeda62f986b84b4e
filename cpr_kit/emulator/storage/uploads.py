"""Resumable uploads: an object that comes in pieces, over as many requests and restarts as it takes.

Source: "Resumable uploads" of the Cloud Storage documentation.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from cpr_kit.emulator.storage import errors
from cpr_kit.emulator.storage.conditions import Conditions
from cpr_kit.emulator.storage.contents import Contents, Draft
from cpr_kit.emulator.storage.index import Index
from cpr_kit.emulator.storage.objects import NewObject, Objects
from cpr_kit.emulator.storage.records import Object

_KEPT_S = 7 * 24 * 60 * 60


@dataclass
class Upload:
    """`total` is the size that was announced; `done` the object, once it is one. `lock` is for one event loop."""

    id: str
    new: NewObject
    total: int | None
    draft: Draft
    done: Object | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Uploads:
    """Threads may share it; the draft of one upload may be written by one at a time."""

    def __init__(self, index: Index, contents: Contents, objects: Objects) -> None:
        self._index = index
        self._contents = contents
        self._objects = objects
        self._open: dict[str, Upload] = {}
        self._lock = threading.Lock()
        index.drop_uploads_before(int(time.time()) - _KEPT_S)

    def start(self, new: NewObject, total: int | None) -> Upload:
        self._objects.may_put(new)
        upload = Upload(uuid.uuid4().hex, new, total, self._contents.draft())
        told = {"new": dataclasses.asdict(new), "total": total}
        self._index.put_upload(upload.id, int(time.time()), upload.draft.path.name, told)
        with self._lock:
            self._open[upload.id] = upload
        return upload

    def find(self, upload_id: str) -> Upload:
        """Raises 404 for one that is unknown, cancelled or a week old."""
        with self._lock:
            if upload_id in self._open:
                return self._open[upload_id]
            row = self._index.upload(upload_id)
            if row is None:
                raise errors.no_upload(upload_id)
            key, told, done = row
            upload = Upload(upload_id, _new(told["new"]), told["total"], self._contents.draft(key))
            if done is None:
                self._open[upload_id] = upload
            else:
                upload.done = Object(**done)
            return upload

    def finish(self, upload: Upload, *, crc32c: str | None, md5: str | None) -> Object:
        """All of it is there. The checksums are those that came with the last piece, if any."""
        new = dataclasses.replace(upload.new, crc32c=upload.new.crc32c or crc32c, md5=upload.new.md5 or md5)
        try:
            upload.done = self._objects.put(
                new, upload.draft, also=lambda found: self._index.end_upload(upload.id, dataclasses.asdict(found))
            )
        except errors.StorageError:
            self.cancel(upload)
            raise
        self._forget(upload)
        return upload.done

    def cancel(self, upload: Upload) -> None:
        self._index.drop_upload(upload.id)
        self._forget(upload)
        upload.draft.discard()

    def close(self) -> None:
        """Let go of the files. What has come stays, for who goes on after the next start."""
        with self._lock:
            for upload in self._open.values():
                upload.draft.release()

    def _forget(self, upload: Upload) -> None:
        with self._lock:
            self._open.pop(upload.id, None)


def _new(told: dict[str, Any]) -> NewObject:
    return NewObject(**{**told, "conditions": Conditions(**told["conditions"])})
