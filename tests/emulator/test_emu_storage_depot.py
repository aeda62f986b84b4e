"""The depot itself: what the emulator does with gs:// URIs, and what a kill -9 leaves."""

import base64
import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import requests
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from cpr_kit.emulator.errors import ApiError, Code
from cpr_kit.emulator.storage import contents
from cpr_kit.emulator.storage.depot import Depot
from cpr_kit.emulator.storage.listing import Query
from cpr_kit.emulator.storage.objects import NewObject, Reference
from cpr_kit.errors import UsageError

QUARTER = 256 * 1024
PROCESS = Path(__file__).with_name("emu_storage_process.py")


@pytest.fixture
def depot(tmp_path):
    with Depot(tmp_path / "storage") as depot:
        yield depot


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def refused(call, code):
    with pytest.raises(ApiError) as caught:
        call()
    assert caught.value.code is code
    return caught.value


class TestUris:
    def test_objects(self, depot):
        depot.write("gs://bucket-1/a/b", b"one", "a/b")
        assert depot.read("gs://bucket-1/a/b") == b"one"
        assert depot.objects.find(Reference(bucket="bucket-1", name="a/b")).content_type == "a/b"
        with depot.open("gs://bucket-1/a/b") as file:
            depot.write("gs://bucket-1/a/b", b"two")
            assert file.read() == b"one"
        assert depot.exists("gs://bucket-1/a/b") and not depot.exists("gs://bucket-1/a")
        assert not depot.exists("gs://bucket-2/a")
        depot.delete("gs://bucket-1/a/b")
        error = refused(lambda: depot.read("gs://bucket-1/a/b"), Code.NOT_FOUND)
        assert str(error) == "No such object: bucket-1/a/b"
        assert "bucket does not exist" in str(refused(lambda: depot.read("gs://bucket-2/x"), Code.NOT_FOUND))

    @pytest.mark.parametrize("uri", ["", "/a/b", "http://a/b", "gs://", "gs:///x", "gs://UP/x", "gs://bucket-1"])
    def test_that_are_none(self, depot, uri):
        refused(lambda: depot.read(uri), Code.INVALID_ARGUMENT)
        refused(lambda: depot.write(uri, b""), Code.INVALID_ARGUMENT)

    def test_lists(self, depot):
        for name in ("b", "a/2", "a/1", "ab"):
            depot.write(f"gs://bucket-1/{name}", b"")
        assert depot.list("gs://bucket-1/a") == ["gs://bucket-1/a/1", "gs://bucket-1/a/2", "gs://bucket-1/ab"]
        assert depot.list("gs://bucket-1/a/") == ["gs://bucket-1/a/1", "gs://bucket-1/a/2"]
        assert len(depot.list("gs://bucket-1")) == 4
        assert depot.list("gs://bucket-2/a") == []

    def test_lists_more_than_a_page(self, depot):
        depot.write("gs://bucket-1/x", b"")
        with depot.objects.draft() as draft:
            draft.release()
            for number in range(2500):
                new = NewObject(bucket="bucket-1", name=f"many/{number:04}")
                depot.objects.copy(Reference(bucket="bucket-1", name="x"), new)
        assert [uri[-4:] for uri in depot.list("gs://bucket-1/many/")] == [f"{number:04}" for number in range(2500)]


class TestFolders:
    def test_a_copy_is_what_was_there(self, depot, tmp_path):
        for name in ("model/a", "model/deep/b", "model2/c", "model"):
            depot.write(f"gs://bucket-1/{name}", name.encode(), "a/b")
        assert depot.copy_folder("gs://bucket-1/model", "gs://managed/1") == 2
        depot.write("gs://bucket-1/model/a", b"new")
        depot.delete("gs://bucket-1/model/deep/b")
        assert depot.list("gs://managed") == ["gs://managed/1/a", "gs://managed/1/deep/b"]
        assert depot.read("gs://managed/1/a") == b"model/a"
        assert depot.read("gs://managed/1/deep/b") == b"model/deep/b"
        assert depot.objects.find(Reference(bucket="managed", name="1/a")).content_type == "a/b"
        depot.delete("gs://managed/1/a")
        assert depot.read("gs://bucket-1/model/a") == b"new"
        assert depot.copy_folder("gs://bucket-1/none", "gs://managed/2") == 0
        assert depot.copy_folder("gs://bucket-1/", "gs://managed/all/") == 3

    def test_a_copy_costs_no_bytes(self, depot, tmp_path):
        depot.write("gs://bucket-1/model/a", b"x" * 100_000)
        depot.copy_folder("gs://bucket-1/model", "gs://managed/1")
        states = {path.stat().st_ino for path in (tmp_path / "storage" / "objects").iterdir()}
        assert len(files(tmp_path / "storage" / "objects")) == 2 and len(states) == 1

    def test_a_copy_where_the_file_system_has_no_links(self, depot, monkeypatch):
        def fails(*_):
            raise OSError(31, "Too many links")

        monkeypatch.setattr(contents.os, "link", fails)
        depot.write("gs://bucket-1/model/a", b"text")
        depot.copy_folder("gs://bucket-1/model", "gs://managed/1")
        depot.write("gs://bucket-1/model/a", b"new")
        assert depot.read("gs://managed/1/a") == b"text"

    def test_a_copy_that_fails_leaves_nothing(self, depot, tmp_path):
        depot.write("gs://bucket-1/m/a", b"")
        depot.write(f"gs://bucket-1/m/{'x' * 1000}", b"")
        refused(lambda: depot.copy_folder("gs://bucket-1/m", f"gs://bucket-1/{'y' * 100}"), Code.INVALID_ARGUMENT)
        assert len(files(tmp_path / "storage" / "objects")) == 2 and len(depot.list("gs://bucket-1")) == 2

    def test_up_and_down(self, depot, tmp_path):
        source = tmp_path / "source"
        (source / "deep").mkdir(parents=True)
        (source / "a.txt").write_bytes(b"a")
        (source / "deep" / "b").write_bytes(os.urandom(3_000_000))
        assert depot.upload_folder(source, "gs://bucket-1/to") == 2
        assert depot.list("gs://bucket-1/") == ["gs://bucket-1/to/a.txt", "gs://bucket-1/to/deep/b"]
        depot.write("gs://bucket-1/to/marker/", b"")
        assert depot.download_folder("gs://bucket-1/to", tmp_path / "target") == 2
        assert (tmp_path / "target" / "deep" / "b").read_bytes() == (source / "deep" / "b").read_bytes()

    @pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//x", "./x", "a\0b"])
    def test_no_name_leads_out_of_the_folder(self, depot, tmp_path, name):
        depot.write(f"gs://bucket-1/to/{name}", b"")
        refused(lambda: depot.download_folder("gs://bucket-1/to", tmp_path / "target"), Code.INVALID_ARGUMENT)
        assert not (tmp_path / "x").exists()


class TestKeeping:
    def test_what_an_index_file_keeps(self, tmp_path):
        with Depot(tmp_path / "storage", tmp_path / "index") as depot:
            depot.write("gs://bucket-1/a", b"one", "a/b")
            depot.write("gs://bucket-1/a", b"two", "a/b")
            before = depot.objects.find(Reference(bucket="bucket-1", name="a"))
            depot.write("gs://bucket-1/gone", b"")
            depot.delete("gs://bucket-1/gone")
        with Depot(tmp_path / "storage", tmp_path / "index") as depot:
            assert depot.objects.find(Reference(bucket="bucket-1", name="a")) == before
            assert depot.read("gs://bucket-1/a") == b"two"
            assert files(tmp_path / "storage" / "objects") == [before.content]

    def test_nothing_without_one(self, tmp_path):
        for _ in range(2):
            with Depot(tmp_path / "storage") as depot:
                assert files(tmp_path / "storage") == ["lock"]
                depot.write("gs://bucket-1/a", b"one")

    def test_strays_go_at_the_start(self, tmp_path):
        with Depot(tmp_path / "storage", tmp_path / "index") as depot:
            depot.write("gs://bucket-1/a", b"one")
        for folder in ("drafts", "objects"):
            (tmp_path / "storage" / folder / "stray").write_bytes(b"x")
        with Depot(tmp_path / "storage", tmp_path / "index") as depot:
            assert "stray" not in files(tmp_path / "storage") and depot.read("gs://bucket-1/a") == b"one"

    def test_one_process_at_a_time(self, tmp_path, depot):
        with pytest.raises(UsageError, match="another process stores its objects in"):
            Depot(tmp_path / "storage")
        depot.close()
        Depot(tmp_path / "storage").close()

    def test_another_file_is_no_index(self, tmp_path):
        (tmp_path / "index").write_bytes(b"x" * 5000)
        with pytest.raises(UsageError, match="is no index of the storage"):
            Depot(tmp_path / "storage", tmp_path / "index")
        assert (tmp_path / "index").read_bytes() == b"x" * 5000
        with contextlib.closing(sqlite3.connect(tmp_path / "later")) as database:
            database.execute("PRAGMA user_version = 99")
        with pytest.raises(UsageError, match="another version"):
            Depot(tmp_path / "storage", tmp_path / "later")
        Depot(tmp_path / "storage").close()


@contextlib.contextmanager
def process(tmp_path):
    command = [sys.executable, PROCESS, tmp_path / "storage", tmp_path / "index"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROCESS.parent) as running:
        try:
            yield running, running.stdout.readline().strip()
        finally:
            running.kill()


class TestKilled:
    def test_amid_uploads(self, tmp_path):
        """Writers over and over; whenever it is killed, each object is one of those that were sent, whole."""
        size, sent = 3 * QUARTER, 0
        for round_ in range(4):
            with process(tmp_path) as (running, base):
                requests.post(f"{base}/storage/v1/b?project=p", json={"name": "bucket-1"})
                enough = threading.Semaphore(0)

                def write(name, base=base, enough=enough, last=5 + round_ * 3):
                    nonlocal sent
                    # The kill may come between the head of an answer and its body.
                    cut = contextlib.suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
                    with cut, requests.Session() as session:
                        for number in range(100_000):
                            url = f"{base}/upload/storage/v1/b/bucket-1/o?uploadType=media&name={name}"
                            session.post(url, bytes([number % 250 + 1]) * size).raise_for_status()
                            sent += 1
                            if number == last:
                                enough.release()

                writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
                for writer in writers:
                    writer.start()
                assert all(enough.acquire(timeout=60) for _ in writers)
                running.kill()
                for writer in writers:
                    writer.join()
            with Depot(tmp_path / "storage", tmp_path / "index") as depot:
                found = depot.objects.page("bucket-1", Query()).items
                assert [each.name for each in found] == ["a", "b", "c"]
                for each in found:
                    data = depot.read(f"gs://bucket-1/{each.name}")
                    assert len(data) == each.size == size and len(set(data)) == 1
                assert files(tmp_path / "storage" / "objects") == sorted(each.content for each in found)
                assert files(tmp_path / "storage" / "drafts") == []
        assert sent > 20

    def test_a_resumable_upload_goes_on_after_it(self, tmp_path):
        data = os.urandom(5 * QUARTER)
        with process(tmp_path) as (running, base):
            requests.post(f"{base}/storage/v1/b?project=p", json={"name": "bucket-1"})
            url = f"{base}/upload/storage/v1/b/bucket-1/o?uploadType=resumable&name=x"
            started = requests.post(url, json={"metadata": {"a": "1"}}, headers={"X-Upload-Content-Type": "a/b"})
            session = started.headers["location"]
            first = requests.put(
                session, data[: 2 * QUARTER], headers={"Content-Range": f"bytes 0-{2 * QUARTER - 1}/*"}
            )
            assert first.status_code == 308
            running.kill()
        with process(tmp_path) as (running, other):
            session = session.replace(base, other)
            asked = requests.put(session, headers={"Content-Range": "bytes */*"})
            assert (asked.status_code, asked.headers["range"]) == (308, f"bytes=0-{2 * QUARTER - 1}")
            rest = f"bytes {2 * QUARTER}-{len(data) - 1}/{len(data)}"
            done = requests.put(session, data[2 * QUARTER :], headers={"Content-Range": rest})
            assert done.status_code == 200 and done.json()["metadata"] == {"a": "1"}
            assert done.json()["md5Hash"] == base64.b64encode(hashlib.md5(data).digest()).decode()
            running.kill()
        with process(tmp_path) as (_, last):
            asked = requests.put(session.replace(other, last), headers={"Content-Range": "bytes */*"})
            assert asked.status_code == 200 and asked.json()["generation"] == done.json()["generation"]
            assert requests.get(f"{last}/bucket-1/x").content == data


NAMES = st.text(st.sampled_from("ab/é."), min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
BUCKETS = st.sampled_from(["one", "two"])
SLOTS = st.tuples(BUCKETS, NAMES)


class Storage(RuleBasedStateMachine):
    """Any sequence of calls leaves what a dict would."""

    slots = Bundle("slots")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.depot = Depot(self.path / "storage", self.path / "index")
        self.model = {}
        self.generations = set()

    def teardown(self):
        self.depot.close()
        self.folder.cleanup()

    def uri(self, slot):
        return f"gs://{slot[0]}/{slot[1]}"

    @rule(target=slots, slot=SLOTS, data=st.binary(max_size=5))
    def write(self, slot, data):
        self.depot.write(self.uri(slot), data)
        self.model[slot] = data
        return slot

    @rule(slot=slots)
    def read(self, slot):
        if slot in self.model:
            assert self.depot.read(self.uri(slot)) == self.model[slot]
        else:
            refused(lambda: self.depot.read(self.uri(slot)), Code.NOT_FOUND)

    @rule(slot=consumes(slots))
    def delete(self, slot):
        if self.model.pop(slot, None) is None:
            refused(lambda: self.depot.delete(self.uri(slot)), Code.NOT_FOUND)
        else:
            self.depot.delete(self.uri(slot))

    @rule(target=slots, source=slots, name=NAMES, move=st.booleans())
    def copy(self, source, name, move):
        target = (source[0], name)
        call = lambda: self.depot.objects.copy(
            Reference(bucket=source[0], name=source[1]), NewObject(bucket=source[0], name=name), move=move
        )
        if source not in self.model:
            refused(call, Code.NOT_FOUND)
            return multiple()
        call()
        data = self.model.pop(source) if move else self.model[source]
        self.model[target] = data
        return target

    @rule(target=slots, sources=st.lists(slots, min_size=1, max_size=3), name=NAMES)
    def compose(self, sources, name):
        bucket = sources[0][0]
        sources = [(bucket, source[1]) for source in sources]
        target = (bucket, name)
        call = lambda: self.depot.objects.compose(
            [Reference(bucket=bucket, name=source[1]) for source in sources], NewObject(bucket=bucket, name=name)
        )
        if all(source in self.model for source in sources):
            call()
            self.model[target] = b"".join(self.model[source] for source in sources)
            return target
        refused(call, Code.NOT_FOUND)
        return multiple()

    @rule(source=SLOTS, into=SLOTS)
    def copy_folder(self, source, into):
        before = {
            name[len(self.prefix(source)) :]: data
            for (bucket, name), data in self.model.items()
            if bucket == source[0] and name.startswith(self.prefix(source))
        }
        names = {self.prefix(into) + name for name in before}
        if names & {"", ".", ".."}:
            return
        assert self.depot.copy_folder(self.uri(source), self.uri(into)) == len(before)
        self.model |= {(into[0], self.prefix(into) + name): data for name, data in before.items()}

    def prefix(self, slot):
        return f"{slot[1].rstrip('/')}/" if slot[1].strip("/") else ""

    @rule(
        bucket=BUCKETS,
        prefix=st.one_of(st.just(""), NAMES),
        delimiter=st.sampled_from(["", "/", "a"]),
        limit=st.integers(1, 3),
    )
    def page(self, bucket, prefix, delimiter, limit):
        expected, folders = set(), set()
        for slot_bucket, name in self.model:
            if slot_bucket == bucket and name.startswith(prefix):
                head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
                folders.add(prefix + head + found) if found else expected.add(name)
        self.depot.objects.ensure_bucket(bucket)
        items, prefixes, token = [], [], b""
        while token is not None:
            query = Query(prefix=prefix.encode(), delimiter=delimiter, limit=limit, token=token)
            page = self.depot.objects.page(bucket, query)
            assert len(page) <= limit
            items += [found.name for found in page.items]
            prefixes += page.prefixes
            token = page.token
        assert items == sorted(expected, key=str.encode) and prefixes == sorted(folders, key=str.encode)

    @rule()
    def restart(self):
        self.depot.close()
        self.depot = Depot(self.path / "storage", self.path / "index")

    @invariant()
    def no_content_without_object(self):
        assert len(files(self.path / "storage" / "objects")) == len(self.model)
        assert files(self.path / "storage" / "drafts") == []


Storage.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestStorage = Storage.TestCase
