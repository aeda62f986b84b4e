"""What goes wrong at the end of an operation, or of an emulator: nothing is left over, and nobody waits for ever."""

import asyncio
import sqlite3
import threading

import pytest
import requests
from google.longrunning import operations_pb2

from cpr_kit.emulator import messages
from cpr_kit.emulator.errors import Code
from cpr_kit.emulator.operations import Operations
from cpr_kit.emulator.app import Emulator
from cpr_kit.emulator.store import Store
from cpr_kit.emulator.threads import apart
from cpr_kit.engine.choose import choose


async def nothing(*_):
    pass


@pytest.fixture
def operations():
    store = Store()
    said = []
    made = Operations(store, nothing, said.append)
    made.said = said
    yield made
    store.close()


def work_on(operations, work):
    async def run():
        operations.register("DeployModel", messages.DeployModelRequest, work)
        started = operations.start(
            "DeployModel",
            "projects/1/locations/l/endpoints/e",
            messages.DeployModelRequest(),
            {},
            messages.DeployModelOperationMetadata(),
        )
        return await operations.wait(started.name, 10)

    return asyncio.run(run())


def test_what_follows_a_commit_follows_it_and_nothing_else(operations):
    done, undone = [], []

    async def work(_job):
        def commit():
            operations.store.afterwards(done=lambda: done.append(1), undone=lambda: undone.append(1))
            assert not done
            return messages.DeployModelResponse()

        return commit

    assert work_on(operations, work).WhichOneof("result") == "response"
    assert (done, undone) == ([1], [])


class FullDisk:
    """A database whose COMMIT fails, as on a full disk; a mock, since no disk of this machine may be filled."""

    def __init__(self, database, times):
        self.database, self.times = database, times

    def execute(self, statement, *values):
        if statement == "COMMIT" and self.times:
            self.times -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return self.database.execute(statement, *values)

    def __getattr__(self, name):
        return getattr(self.database, name)


@pytest.mark.parametrize("times", [1, 100])
def test_a_commit_that_fails_is_undone_and_the_operation_ends(operations, times):
    done, undone = [], []

    async def work(_job):
        def commit():
            operations.store.afterwards(done=lambda: done.append(1), undone=lambda: undone.append(1))
            operations.store.database = FullDisk(operations.store.database, times)
            return messages.DeployModelResponse()

        return commit

    ended = work_on(operations, work)
    assert (ended.done, ended.error.code) == (True, Code.INTERNAL)
    assert "disk is full" in ended.error.message
    assert (done, undone) == ([], [1])
    assert any("disk is full" in line for line in operations.said)
    assert isinstance(ended, operations_pb2.Operation)


def test_threads_that_block_leave_the_pool_to_others():
    release = threading.Event()

    async def run():
        waiting = [apart(release.wait) for _ in range(64)]
        await asyncio.wait_for(asyncio.to_thread(release.set), 10)
        return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == [True] * 64


def test_an_orderly_end_leaves_no_session_to_be_removed(tmp_path):
    """Another emulator with the same state would take what this program has started since for left over."""
    path = tmp_path / "state.db"
    with Emulator(engine=choose("process").engine, state=path) as emulator:
        assert requests.get(f"{emulator.url}/emulator/").status_code == 200
    store = Store(path)
    assert store.value("session") is None
    store.close()
