"""The emulator's state: protobuf messages in SQLite, with what was read kept parsed.

All of it is used from one thread, the loop's. A change is on the disk before the caller hears of it, so that a kill
loses nothing that was answered; what a transaction changed is undone together.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from google.protobuf.message import Message

from cpr_kit.emulator import private
from cpr_kit.errors import UsageError

M = TypeVar("M", bound=Message)

_FORMAT = "1"
_TABLES = """
CREATE TABLE IF NOT EXISTS resource (
    kind TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS value (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS work (name TEXT PRIMARY KEY, number INTEGER NOT NULL, call TEXT NOT NULL,
    request BLOB NOT NULL, plan TEXT NOT NULL) WITHOUT ROWID;
"""


class Store:
    """`path` None keeps everything in memory. Raises UsageError for a file in use, and for one that is no state."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._tables: list[Table[Message]] = []
        self._depth = 0
        self._done: list[Callable[[], object]] = []
        self._undone: list[Callable[[], object]] = []
        with contextlib.ExitStack() as undo:
            try:
                if path is not None:
                    private.file(path)
                self.database = sqlite3.connect(
                    path or ":memory:", isolation_level=None, timeout=0, check_same_thread=False
                )
                undo.callback(self.database.close)
                self._open()
            except (sqlite3.DatabaseError, OSError) as error:
                raise self._refusal(error) from error
            undo.pop_all()

    def _open(self) -> None:
        run = self.database.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        tables = {row[0] for row in run("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "work" not in tables:
            raise UsageError(f"{self._path} is a database of something else; give --state another file")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        self.database.executescript(_TABLES)
        with self.transaction():  # which takes the file for this emulator alone
            found = self.value("format") or _FORMAT
            self.set_value("format", found)
        if found != _FORMAT:
            raise UsageError(
                f"{self._path} holds a state of format {found}, this version reads {_FORMAT}; use another file"
            )

    def _refusal(self, error: sqlite3.DatabaseError | OSError) -> UsageError:
        if "locked" in str(error):
            return UsageError(f"{self._path} is in use by another emulator; stop it, or give --state another file")
        why = error.strerror if isinstance(error, OSError) else error
        return UsageError(f"{self._path} cannot be used as the emulator's state ({why}); give --state another file")

    def close(self) -> None:
        self.database.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; transactions within one belong to it."""
        self._depth += 1
        try:
            if self._depth == 1:
                self.database.execute("BEGIN IMMEDIATE")
            yield
            if self._depth == 1:
                self.database.execute("COMMIT")
                self._follow(self._done)
        except BaseException:
            if self._depth == 1 and self.database.in_transaction:
                self.database.execute("ROLLBACK")
                for table in self._tables:
                    table.forget()
            if self._depth == 1:
                self._follow(self._undone)
            raise
        finally:
            self._depth -= 1

    def afterwards(self, *, done: Callable[[], object], undone: Callable[[], object]) -> None:
        """What to do once the present transaction is on the disk, and what if it never gets there."""
        self._done.append(done)
        self._undone.append(undone)

    def _follow(self, steps: list[Callable[[], object]]) -> None:
        steps = list(steps)
        self._done, self._undone = [], []
        for step in steps:
            step()

    def table(self, kind: str, message: type[M]) -> Table[M]:
        table = Table(self.database, kind, message)
        self._tables.append(table)
        return table

    def value(self, name: str) -> str | None:
        row = self.database.execute("SELECT text FROM value WHERE name = ?", (name,)).fetchone()
        return row and str(row[0])

    def set_value(self, name: str, text: str) -> None:
        self.database.execute("INSERT OR REPLACE INTO value VALUES (?, ?)", (name, text))

    def delete_value(self, name: str) -> None:
        self.database.execute("DELETE FROM value WHERE name = ?", (name,))

    def next(self, name: str) -> int:
        """1, 2, 3 ... for each name; no number is given twice, after a restart neither."""
        number = int(self.value(f"next:{name}") or 1)
        self.set_value(f"next:{name}", str(number + 1))
        return number


class Table(Generic[M]):
    """The messages of one kind by name, in the order in which they were made."""

    def __init__(self, database: sqlite3.Connection, kind: str, message: type[M]) -> None:
        self._database = database
        self._kind = kind
        self._message = message
        self._kept: dict[str, M] | None = None

    def get(self, name: str) -> M | None:
        """A copy of its own for the caller."""
        found = self._all().get(name)
        return None if found is None else self._copy(found)

    def put(self, name: str, message: M) -> None:
        self._database.execute(
            "INSERT INTO resource VALUES (?, ?, (SELECT coalesce(max(number), 0) + 1 FROM resource WHERE kind = ?), ?)"
            " ON CONFLICT DO UPDATE SET data = excluded.data",
            (self._kind, name, self._kind, message.SerializeToString()),
        )
        self._all()[name] = self._copy(message)

    def delete(self, name: str) -> None:
        self._database.execute("DELETE FROM resource WHERE kind = ? AND name = ?", (self._kind, name))
        self._all().pop(name, None)

    def under(self, prefix: str) -> list[M]:
        """Copies of those whose name begins with `prefix`."""
        return [self._copy(message) for name, message in self._all().items() if name.startswith(prefix)]

    def __contains__(self, name: str) -> bool:
        return name in self._all()

    def forget(self) -> None:
        """What is kept parsed is read again when it is asked for."""
        self._kept = None

    def _all(self) -> dict[str, M]:
        if self._kept is None:
            rows = self._database.execute(
                "SELECT name, data FROM resource WHERE kind = ? ORDER BY number", (self._kind,)
            )
            self._kept = {name: self._message.FromString(data) for name, data in rows}
        return self._kept

    def _copy(self, message: M) -> M:
        copy: M = self._message()
        copy.CopyFrom(message)
        return copy
