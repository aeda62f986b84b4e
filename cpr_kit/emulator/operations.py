"""Long-running operations: started by a call, worked on beside it, ended once, whatever happens in between.

An operation's request and plan are on the disk before its name is given out. One that had not ended when the emulator
was killed is worked on again at the next start, with the same plan; its result and its end are one transaction.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from cpr_kit.emulator import errors
from cpr_kit.emulator.errors import ApiError, Code, not_found
from cpr_kit.emulator.names import location_of, new_id
from cpr_kit.emulator.store import Store

Operation = Any
"""A google.longrunning.Operation."""
Plan = Mapping[str, str]
Commit = Callable[[], Message]
"""Changes the state and gives the operation's response; called in the transaction that ends the operation."""


@dataclass(frozen=True)
class Job:
    """One operation's work: its own name, the request as it came, and what was decided when it was taken."""

    name: str
    request: Any
    plan: Plan


Work = Callable[[Job], Awaitable[Commit]]
"""Must be fit to begin again: it may have been killed anywhere. Cancelled, it undoes what it has begun."""


@dataclass
class _Kind:
    request: type[Message]
    work: Work


@dataclass
class Operations:
    """`before` is called with an operation's call and location before its work, and may raise: faults on demand."""

    store: Store
    before: Callable[[str, str], Awaitable[None]]
    report: Callable[[str], None] = print
    _kinds: dict[str, _Kind] = field(default_factory=dict)
    _running: dict[str, tuple[asyncio.Task[None], str, Job]] = field(default_factory=dict)
    _unwritten: dict[str, Operation] = field(default_factory=dict)
    _closing: bool = False

    def __post_init__(self) -> None:
        self._table = self.store.table("operation", operations_pb2.Operation)

    def register(self, call: str, request: type[Message], work: Work) -> None:
        self._kinds[call] = _Kind(request, work)

    def start(self, call: str, resource: str, request: Message, plan: Plan, metadata: Message) -> Operation:
        """Take an operation on; its work begins when the loop is next free."""
        operation = operations_pb2.Operation(name=f"{resource}/operations/{new_id()}")
        _stamp(metadata)
        operation.metadata.Pack(metadata)
        with self.store.transaction():
            self.store.database.execute(
                "INSERT INTO work VALUES (?, ?, ?, ?, ?)",
                (operation.name, self.store.next("operation"), call, request.SerializeToString(), json.dumps(plan)),
            )
            self._table.put(operation.name, operation)
        self._begin(call, Job(operation.name, request, plan))
        return operation

    def resume(self) -> None:
        """Work on what had not ended when the state was last in use."""
        rows = self.store.database.execute("SELECT name, call, request, plan FROM work ORDER BY number").fetchall()
        for name, call, request, plan in rows:
            kind = self._kinds[call]
            self._begin(call, Job(name, kind.request.FromString(request), json.loads(plan)))

    def running(self, *calls: str) -> Iterable[Plan]:
        """The plans of the operations of these calls that have not ended."""
        return [job.plan for _, call, job in self._running.values() if call in calls]

    def requests(self, *calls: str) -> Iterable[Any]:
        """The requests of the operations of these calls that have not ended."""
        return [job.request for _, call, job in self._running.values() if call in calls]

    def get(self, name: str) -> Operation:
        operation = self._unwritten.get(name) or self._table.get(name)
        if operation is None:
            raise not_found(f"The operation {name} is not found.")
        return operation

    async def wait(self, name: str, seconds: float) -> Operation:
        """The operation once it has ended, or as it is after that time."""
        self.get(name)
        if name in self._running:
            await asyncio.wait({self._running[name][0]}, timeout=max(seconds, 0))
        return self.get(name)

    def under(self, resource: str) -> list[Operation]:
        return [found for found in self._table.under(f"{resource}/") if "/operations/" in found.name]

    def cancel(self, name: str) -> None:
        self.get(name)
        if name in self._running:
            self._running[name][0].cancel()

    def delete(self, name: str) -> None:
        if not self.get(name).done:
            raise errors.failed_precondition(f"The operation {name} has not ended.")
        self._table.delete(name)

    def is_beta(self, name: str, *, mark: bool = False) -> bool:
        """Whether it was begun through v1beta1, whose messages have other names; `mark` notes that it was."""
        if mark and self.store.value(f"beta {name}") is None:
            self.store.set_value(f"beta {name}", "yes")
        return self.store.value(f"beta {name}") is not None

    async def close(self) -> None:
        """End all work. With a state file it goes on at the next start."""
        self._closing = True
        tasks = [task for task, _, _ in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, call: str, job: Job) -> None:
        task = asyncio.get_running_loop().create_task(self._run(call, job), name=job.name)
        self._running[job.name] = (task, call, job)
        task.add_done_callback(lambda _: self._running.pop(job.name, None))

    async def _run(self, call: str, job: Job) -> None:
        try:
            await self.before(call, location_of(job.name))
            commit = await self._kinds[call].work(job)
            with self.store.transaction():
                self._end(job.name, commit())
        except ApiError as error:
            self._fail(job.name, error)
        except asyncio.CancelledError:
            if not self._closing:
                self._fail(job.name, errors.cancelled("The operation was cancelled."))
        except Exception as error:  # noqa: BLE001 - an operation ends, whatever is wrong with its work
            self.report(f"the emulator failed in {call}:\n{traceback.format_exc()}")
            self._fail(job.name, ApiError(Code.INTERNAL, f"the emulator failed: {type(error).__name__}: {error}"))

    def _fail(self, name: str, error: ApiError) -> None:
        """An end that cannot be written is told all the same: nobody is to wait for it for ever."""
        try:
            self._end(name, error)
        except sqlite3.Error as cause:
            self.report(f"the end of {name} cannot be kept: {cause}")
            if (operation := self._table.get(name)) is not None:
                self._unwritten[name] = _ended(operation, error)

    def _end(self, name: str, result: Message | ApiError) -> None:
        operation = self._table.get(name)
        with self.store.transaction():
            self.store.database.execute("DELETE FROM work WHERE name = ?", (name,))
            if operation is not None:
                self._table.put(name, _ended(operation, result))


def _ended(operation: Operation, result: Message | ApiError) -> Operation:
    operation.done = True
    metadata = operation.metadata
    kind = descriptor_pool.Default().FindMessageTypeByName(metadata.TypeName())
    message = message_factory.GetMessageClass(kind).FromString(metadata.value)
    message.generic_metadata.update_time.GetCurrentTime()
    metadata.Pack(message)
    if isinstance(result, ApiError):
        operation.error.code, operation.error.message = result.code, result.message
    else:
        operation.response.Pack(result)
    return operation


def _stamp(metadata: Any) -> None:
    """The times of an operation's metadata, whichever of the API's messages it is."""
    generic = metadata.generic_metadata
    generic.update_time.GetCurrentTime()
    generic.create_time.CopyFrom(generic.update_time)
