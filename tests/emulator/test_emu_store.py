"""The emulator's state: messages in SQLite, whole transactions or none, one emulator at a time."""

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cpr_kit.emulator.messages import Endpoint
from cpr_kit.emulator.store import Store
from cpr_kit.errors import UsageError


def endpoint(name, display_name=""):
    return Endpoint(name=name, display_name=display_name)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.sqlite"


@pytest.fixture
def store(path):
    with contextlib.closing(Store(path)) as store:
        yield store


class Broken(Exception):
    pass


def test_what_is_got_is_the_callers_own(store):
    table = store.table("endpoint", Endpoint)
    given = endpoint("a", "first")
    table.put("a", given)
    given.display_name = "changed"
    got, listed = table.get("a"), table.under("")[0]
    got.display_name = listed.display_name = "changed"
    assert table.get("a").display_name == "first"
    assert table.get("b") is None
    assert "a" in table
    assert "b" not in table


def test_the_order_is_that_of_making_and_not_of_changing(store):
    table = store.table("endpoint", Endpoint)
    for name in "cab":
        table.put(name, endpoint(name))
    table.put("c", endpoint("c", "changed"))
    assert [each.name for each in table.under("")] == ["c", "a", "b"]
    table.forget()
    assert [each.name for each in table.under("")] == ["c", "a", "b"]
    table.delete("c")
    table.put("c", endpoint("c"))
    assert [each.name for each in table.under("")] == ["a", "b", "c"]


def test_kinds_are_apart_and_prefixes_are_plain_text(store):
    endpoints, jobs = store.table("endpoint", Endpoint), store.table("job", Endpoint)
    endpoints.put("p/a%", endpoint("a"))
    endpoints.put("p_a", endpoint("b"))
    assert jobs.under("") == []
    assert [each.name for each in endpoints.under("p_")] == ["b"]
    assert [each.name for each in endpoints.under("p/")] == ["a"]


def test_a_transaction_that_raises_is_undone_in_every_table(store):
    endpoints, jobs = store.table("endpoint", Endpoint), store.table("job", Endpoint)
    endpoints.put("kept", endpoint("kept"))
    with pytest.raises(Broken), store.transaction():
        endpoints.put("new", endpoint("new"))
        endpoints.delete("kept")
        jobs.put("job", endpoint("job"))
        store.set_value("name", "text")
        store.next("operation")
        raise Broken
    assert [each.name for each in endpoints.under("")] == ["kept"]
    assert jobs.under("") == []
    assert store.value("name") is None
    assert store.next("operation") == 1


def test_a_transaction_within_one_belongs_to_it(store):
    table = store.table("endpoint", Endpoint)
    with pytest.raises(Broken), store.transaction():
        with store.transaction():
            table.put("a", endpoint("a"))
        raise Broken
    assert table.under("") == []
    with store.transaction():
        with contextlib.suppress(Broken), store.transaction():
            table.put("a", endpoint("a"))
            raise Broken
        table.put("b", endpoint("b"))
    assert [each.name for each in table.under("")] == ["a", "b"]


def test_no_number_is_given_twice(path):
    with contextlib.closing(Store(path)) as store:
        assert [store.next("a"), store.next("a"), store.next("b")] == [1, 2, 1]
    with contextlib.closing(Store(path)) as store:
        assert store.next("a") == 3
        store.delete_value("next:a")
        assert store.next("a") == 1


WRITES = """
import os, signal, sys
from pathlib import Path
from cpr_kit.emulator.messages import Endpoint
from cpr_kit.emulator.store import Store
store = Store(Path(sys.argv[1]))
table = store.table("endpoint", Endpoint)
with store.transaction():
    table.put("a", Endpoint(name="a"))
store.database.execute("BEGIN IMMEDIATE")
table.put("b", Endpoint(name="b"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_answered_outlives_a_kill_and_what_was_not_does_not(path):
    subprocess.run([sys.executable, "-c", WRITES, str(path)], check=False, timeout=60)
    with contextlib.closing(Store(path)) as store:
        assert [each.name for each in store.table("endpoint", Endpoint).under("")] == ["a"]


def refusal(path):
    with pytest.raises(UsageError) as caught:
        Store(path)
    return str(caught.value)


def test_two_emulators_do_not_share_a_file(store, path):
    assert f"{path} is in use by another emulator" in refusal(path)
    store.close()
    Store(path).close()


@pytest.mark.parametrize("content", [b"no database at all, whatever it is", b"SQLite format 3\0" + b"\xff" * 200])
def test_a_file_that_is_no_database_is_refused_and_kept(path, content):
    path.write_bytes(content)
    assert f"{path} cannot be used as the emulator's state" in refusal(path)
    assert path.read_bytes() == content


def test_a_folder_and_a_path_to_nowhere_are_refused(tmp_path):
    assert "cannot be used as the emulator's state (unable to open database file)" in refusal(tmp_path)
    assert "cannot be used as the emulator's state" in refusal(tmp_path / "none" / "state.sqlite")


def test_a_database_of_something_else_is_refused_and_kept(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE song (title TEXT)")
    before = path.read_bytes()
    assert f"{path} is a database of something else" in refusal(path)
    assert path.read_bytes() == before


def test_a_state_of_another_format_is_refused(path):
    with contextlib.closing(Store(path)) as store:
        store.set_value("format", "99")
    for _ in range(2):
        assert "holds a state of format 99, this version reads 1; use another file" in refusal(path)


def test_an_empty_file_is_a_new_state(path):
    path.touch()
    with contextlib.closing(Store(path)) as store:
        assert store.table("endpoint", Endpoint).under("") == []


NAMES = st.sampled_from(["a", "b", "a/1", "a/2", "b%", "b_"])


class Machine(RuleBasedStateMachine):
    """A store with a file against a plain dict: the same in memory, in SQLite, and after it is opened again."""

    @initialize()
    def start(self):
        self.folder = contextlib.ExitStack()
        self.path = Path(self.folder.enter_context(tempfile.TemporaryDirectory())) / "state"
        self.open()
        self.model = {}
        self.values = {}

    def open(self):
        self.store = Store(self.path)
        self.table = self.store.table("endpoint", Endpoint)
        self.other = self.store.table("other", Endpoint)

    def apply(self, changes, model, values):
        for verb, name, text in changes:
            if verb == "put":
                self.table.put(name, endpoint(name, text))
                model[name] = text
            elif verb == "delete":
                self.table.delete(name)
                model.pop(name, None)
            else:
                self.store.set_value(name, text)
                values[name] = text

    CHANGES = st.lists(st.tuples(st.sampled_from(["put", "delete", "value"]), NAMES, st.text(max_size=3)), max_size=5)

    @rule(changes=CHANGES)
    def change(self, changes):
        self.apply(changes, self.model, self.values)

    @rule(changes=CHANGES, more=CHANGES)
    def commit(self, changes, more):
        with self.store.transaction():
            self.apply(changes, self.model, self.values)
            with self.store.transaction():
                self.apply(more, self.model, self.values)

    @rule(changes=CHANGES, more=CHANGES)
    def roll_back(self, changes, more):
        model, values = dict(self.model), dict(self.values)
        with contextlib.suppress(Broken), self.store.transaction():
            self.apply(changes, model, values)
            with self.store.transaction():
                self.apply(more, model, values)
                raise Broken

    @rule()
    def open_again(self):
        self.store.close()
        self.open()

    @rule()
    def read_again(self):
        self.table.forget()

    @invariant()
    def is_the_same(self):
        if not hasattr(self, "model"):
            return
        assert [(each.name, each.display_name) for each in self.table.under("")] == list(self.model.items())
        assert [each.name for each in self.table.under("a/")] == [name for name in self.model if name.startswith("a/")]
        assert self.other.under("") == []
        assert {name: self.store.value(name) for name in self.values} == self.values

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            self.folder.close()


Machine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
test_any_sequence_of_changes_is_kept = Machine.TestCase
