"""Buckets and objects in a folder: what the emulator itself reads and writes by gs:// URI, and the API serves.

Written here rather than taken from gcp-storage-emulator, which covers most of the calls: it does not enforce
ifGenerationMatch, so a program's guard against lost updates would seem to work and not be tried; it is a server
of its own, where the emulator has one port, one certificate, one check of the Host and faults to inject before
any call; Vertex AI's managed copy of a model needs contents that can be linked and never change; and it keeps its
files through `fs`, which nobody maintains.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from cpr_kit.emulator.storage import errors, names
from cpr_kit.emulator.storage.contents import CHUNK, Contents
from cpr_kit.emulator.storage.index import Index
from cpr_kit.emulator.storage.objects import NewObject, Objects, Reference
from cpr_kit.emulator.storage.records import DEFAULT_TYPE, Object
from cpr_kit.emulator.storage.uploads import Uploads


class Depot:
    """Threads may share it; one process at a time uses a folder. Without an index file, nothing outlives it.

    What it raises is an ApiError: NOT_FOUND for a bucket or object that is not there, INVALID_ARGUMENT for a URI
    that names none.
    """

    def __init__(self, folder: Path, index: Path | None = None) -> None:
        self._contents = Contents(folder)
        with contextlib.ExitStack() as undo:
            undo.callback(self._contents.close)
            self._index = Index(index)
            undo.callback(self._index.close)
            self.objects = Objects(self._index, self._contents)
            self.uploads = Uploads(self._index, self._contents, self.objects)
            self._contents.sweep(self._index.contents(), self._index.drafts())
            undo.pop_all()

    def __enter__(self) -> Depot:  # noqa: PYI034  typing.Self is not in Python 3.10
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.uploads.close()
        self._index.close()
        self._contents.close()

    def read(self, uri: str) -> bytes:
        with self.open(uri) as file:
            return file.read()

    def open(self, uri: str) -> BinaryIO:
        """Its bytes as they are now, whatever is written meanwhile."""
        return self.objects.open(_reference(uri))[1]

    def write(self, uri: str, data: bytes, content_type: str = DEFAULT_TYPE) -> None:
        """A missing bucket is made."""
        wanted = _reference(uri)
        self.objects.ensure_bucket(wanted.bucket)
        with self.objects.draft() as draft:
            draft.write([data])
            self.objects.put(_new(wanted, content_type), draft)

    def list(self, uri_prefix: str) -> list[str]:
        """The URIs that start with this, in the order of their names; none where there is no such bucket."""
        bucket, prefix = names.split(uri_prefix)
        return [_uri(found) for found in self.objects.below(bucket, prefix)]

    def exists(self, uri: str) -> bool:
        try:
            self.objects.find(_reference(uri))
        except errors.StorageError as error:
            if error.http_status == errors.no_bucket().http_status:
                return False
            raise
        return True

    def delete(self, uri: str) -> None:
        self.objects.remove(_reference(uri))

    def copy_folder(self, source: str, target: str) -> int:
        """All that is below one folder to another, in one step and by link; the number of objects.

        This is how Vertex AI's managed copy of a model is made: contents never change, so what is written to the
        source afterwards is no matter.
        """
        (bucket, name), (target_bucket, target_name) = names.split(source), names.split(target)
        self.objects.ensure_bucket(target_bucket)
        return self.objects.copy_all(bucket, names.folder(name), target_bucket, names.folder(target_name))

    def upload_folder(self, folder: Path, target: str) -> int:
        """Every file below the folder; the number of files. A missing bucket is made."""
        bucket, name = names.split(target)
        self.objects.ensure_bucket(bucket)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in paths:
            relative = path.relative_to(folder).as_posix()
            wanted = Reference(bucket=bucket, name=names.check_object(names.folder(name) + relative))
            with path.open("rb", buffering=0) as file, self.objects.draft() as draft:
                while chunk := file.read(CHUNK):
                    draft.write([chunk])
                self.objects.put(_new(wanted, DEFAULT_TYPE), draft)
        return len(paths)

    def download_folder(self, uri: str, folder: Path) -> int:
        """Every object below the URI's folder, as a file; the number of files. A name must not lead out of it."""
        bucket, name = names.split(uri)
        prefix = names.folder(name)
        found = [each for each in self.objects.below(bucket, prefix) if not each.name.endswith("/")]
        for each in found:
            path = _inside(folder, each.name[len(prefix) :])
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.open(_uri(each)) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
        return len(found)


def _reference(uri: str) -> Reference:
    bucket, name = names.split(uri)
    return Reference(bucket=bucket, name=names.check_object(name))


def _new(wanted: Reference, content_type: str) -> NewObject:
    return NewObject(bucket=wanted.bucket, name=wanted.name, fields={"contentType": content_type})


def _uri(found: Object) -> str:
    return f"{names.SCHEME}{found.bucket}/{found.name}"


def _inside(folder: Path, relative: str) -> Path:
    parts = relative.split("/")
    if "\0" in relative or any(part in ("", ".", "..") for part in parts):
        raise errors.invalid(f"the object {relative!r} cannot be a file below {folder}: rename or remove it")
    return folder / relative
