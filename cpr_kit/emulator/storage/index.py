"""Which buckets and objects there are, in SQLite: the one truth about which contents count.

Names of objects are kept as bytes, which is how Cloud Storage orders them.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from cpr_kit.emulator import private
from cpr_kit.emulator.storage.records import Bucket, Object
from cpr_kit.errors import UsageError

_VERSION = 1
_TABLES = """
CREATE TABLE buckets (name TEXT PRIMARY KEY, generation INT, metageneration INT, updated INT, fields TEXT)
WITHOUT ROWID;
CREATE TABLE objects (
    bucket TEXT, name BLOB, generation INT, metageneration INT, created INT, updated INT,
    content TEXT, size INT, crc32c TEXT, md5 TEXT, components INT, fields TEXT, PRIMARY KEY (bucket, name)
) WITHOUT ROWID;
CREATE TABLE uploads (id TEXT PRIMARY KEY, began INT, draft TEXT, told TEXT, done TEXT) WITHOUT ROWID;
"""
_BUCKET = tuple(field.name for field in fields(Bucket))
_OBJECT = tuple(field.name for field in fields(Object))
_PUT_BUCKET = "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?)"
_PUT_OBJECT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Index:
    """Threads may share it: one is let in at a time. A single statement is done wholly or not at all."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.RLock()
        if path is not None:
            try:
                private.file(path)
            except OSError as error:
                raise UsageError(f"{path} cannot be made ({error.strerror}): take another file") from error
        self._database = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise UsageError(f"{path} is no index of the storage ({error}): take another file") from error
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        # A killed process loses nothing that was committed: the kernel has it.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT")
        elif version != _VERSION:
            raise UsageError(f"the storage was written by another version of the kit (format {version}): remove it")

    def close(self) -> None:
        with self._lock:
            self._database.close()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """What is read and written inside is one step: no other thread comes between, and an error undoes it."""
        with self._lock:
            if self._database.in_transaction:
                yield
                return
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.OperationalError):  # a full disk has undone it already
                    self._database.execute("ROLLBACK")
                raise

    def bucket(self, name: str) -> Bucket | None:
        rows = self._rows("SELECT * FROM buckets WHERE name = ?", name)
        return _bucket(rows[0]) if rows else None

    def buckets(self, start: str, limit: int) -> list[Bucket]:
        rows = self._rows("SELECT * FROM buckets WHERE name >= ? ORDER BY name LIMIT ?", start, limit)
        return [_bucket(row) for row in rows]

    def put_bucket(self, bucket: Bucket) -> None:
        self._rows(_PUT_BUCKET, *astuple(bucket)[:-1], json.dumps(bucket.fields))

    def drop_bucket(self, name: str) -> None:
        self._rows("DELETE FROM buckets WHERE name = ?", name)

    def named(self, bucket: str, name: str) -> Object | None:
        rows = self._rows("SELECT * FROM objects WHERE bucket = ? AND name = ?", bucket, name.encode())
        return _object(rows[0]) if rows else None

    def objects(self, bucket: str, start: bytes, limit: int) -> list[Object]:
        """In order, from the first whose name is not below `start`."""
        query = "SELECT * FROM objects WHERE bucket = ? AND name >= ? ORDER BY name LIMIT ?"
        return [_object(row) for row in self._rows(query, bucket, start, limit)]

    def put_object(self, found: Object) -> None:
        values = [getattr(found, name) for name in _OBJECT[2:-1]]
        self._rows(_PUT_OBJECT, found.bucket, found.name.encode(), *values, json.dumps(found.fields))

    def drop_object(self, found: Object) -> None:
        self._rows("DELETE FROM objects WHERE bucket = ? AND name = ?", found.bucket, found.name.encode())

    def contents(self) -> set[str]:
        return {key for (key,) in self._rows("SELECT content FROM objects")}

    def last_generation(self) -> int:
        ((last,),) = self._rows("SELECT max(generation) FROM objects")
        return last or 0

    def upload(self, upload_id: str) -> tuple[str, dict[str, Any], dict[str, Any] | None] | None:
        """Its draft's key, what was told at its beginning, and the object that came of it."""
        rows = self._rows("SELECT draft, told, done FROM uploads WHERE id = ?", upload_id)
        if not rows:
            return None
        draft, told, done = rows[0]
        return draft, json.loads(told), json.loads(done) if done else None

    def put_upload(self, upload_id: str, began: int, draft: str, told: dict[str, Any]) -> None:
        self._rows("INSERT INTO uploads VALUES (?, ?, ?, ?, NULL)", upload_id, began, draft, json.dumps(told))

    def end_upload(self, upload_id: str, done: dict[str, Any]) -> None:
        self._rows("UPDATE uploads SET done = ? WHERE id = ?", json.dumps(done), upload_id)

    def drop_upload(self, upload_id: str) -> None:
        self._rows("DELETE FROM uploads WHERE id = ?", upload_id)

    def drop_uploads_before(self, began: int) -> None:
        self._rows("DELETE FROM uploads WHERE began < ?", began)

    def drafts(self) -> set[str]:
        return {key for (key,) in self._rows("SELECT draft FROM uploads WHERE done IS NULL")}

    def _rows(self, statement: str, *values: object) -> list[Any]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()


def _bucket(row: tuple[Any, ...]) -> Bucket:
    return Bucket(**dict(zip(_BUCKET[:-1], row, strict=False)), fields=json.loads(row[-1]))


def _object(row: tuple[Any, ...]) -> Object:
    values = dict(zip(_OBJECT[:-1], row, strict=False))
    return Object(**{**values, "name": row[1].decode()}, fields=json.loads(row[-1]))
