from __future__ import annotations

import os
import threading
import time

import pytest

from cpr_kit.engine.store import Store

ENTRY = ("things", "key")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


def test_an_entry_is_made_once_even_by_many_at_once(store):
    made = []

    def make(folder):
        made.append(folder)
        time.sleep(0.05)
        (folder / "file").write_text("x")

    seen = []
    threads = [
        threading.Thread(target=lambda: seen.append((store.provide(ENTRY, make) / "file").exists())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), seen) == (1, [True] * 8)


def test_an_entry_whose_making_failed_is_made_from_nothing(store):
    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.provide(ENTRY, fail)
    folder = store.provide(ENTRY, lambda folder: (folder / "whole").write_text("x"))
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_a_record_keeps_its_entries_from_being_pruned(store):
    folder = store.provide(ENTRY, lambda _: None)
    store.write("name/with:signs", {"entries": {"things": "key"}})
    assert store.read("name/with:signs") == {"entries": {"things": "key"}}
    assert store.prune() == []
    store.remove("name/with:signs")
    assert store.read("name/with:signs") is None
    assert store.prune() == [folder]
    assert not folder.exists()
    assert store.prune() == []


def test_what_is_held_or_was_used_lately_is_not_pruned(store):
    folder = store.provide(ENTRY, lambda _: None)
    assert store.prune(entries_unused_s=60) == []
    with store.held(ENTRY):
        assert store.prune() == []
    assert store.prune() == [folder]
    with pytest.raises(FileNotFoundError), store.held(ENTRY):
        pass


def test_old_records_go_when_asked(store):
    folder = store.provide(ENTRY, lambda _: None)
    store.write("old", {"entries": {"things": "key"}})
    assert store.prune(records_unused_s=60) == []
    assert store.prune(records_unused_s=-1) == [folder]


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"CPR_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/cpr-kit"),
        ({"HOME": "/h"}, "/h/.cache/cpr-kit"),
    ],
)
def test_where_the_cache_is(environ, root):
    assert str(Store.default(environ).root) == root


def test_a_failed_making_leaves_nothing_behind(store):
    def fill_the_disk(folder):
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        store.provide(ENTRY, fill_the_disk)
    assert not store.path(ENTRY).exists()


def test_an_entry_pruned_while_it_is_asked_for_is_made_again(store, monkeypatch):
    def make(folder):
        (folder / "x").write_text("x")

    store.provide(ENTRY, make)
    utime = os.utime

    def prune_first(path):
        monkeypatch.setattr(os, "utime", utime)
        store.prune()
        utime(path)

    # The moment cannot be hit from outside, so the call that looks for the entry prunes it first.
    monkeypatch.setattr(os, "utime", prune_first)
    assert (store.provide(ENTRY, make) / "x").exists()
    assert (store.provide(ENTRY, make) / "x").exists()


def test_a_record_that_cannot_be_read_counts_as_none(store):
    store.write("a:1", {"entries": {}})
    next(store.root.glob("images/*.json")).write_text("")

    assert store.read("a:1") is None
    assert list(store.records()) == []
    store.prune()


def test_a_long_reference_has_a_record(store):
    name = "/".join(["part"] * 80) + ":latest"
    store.write(name, {"entries": {}, "name": name})
    assert store.read(name)["name"] == name


def test_a_relative_cache_is_made_absolute(tmp_path):
    assert Store.default({"XDG_CACHE_HOME": "caches"}).root.is_absolute()
    assert Store.default({"CPR_CACHE": "cache"}).root.is_absolute()
