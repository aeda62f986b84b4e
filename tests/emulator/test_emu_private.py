"""What the emulator keeps is for its user alone, whatever the umask; and what it says where nothing can be kept."""

import contextlib
import os

import pytest


from cpr_kit.emulator import logs, private
from cpr_kit.emulator.settings import Settings
from cpr_kit.emulator.storage.depot import Depot
from cpr_kit.emulator.store import Store
from cpr_kit.errors import LackingError, UsageError


@pytest.fixture(autouse=True)
def umask():
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder):
    return {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in folder.rglob("*")}


def test_folders_that_are_missing_are_made_and_the_others_left(tmp_path):
    (tmp_path / "there").mkdir(mode=0o755)
    private.folder(tmp_path / "there" / "a" / "b")
    private.folder(tmp_path / "there" / "a" / "b")
    private.folder(tmp_path / "there")
    assert modes(tmp_path) == {"there": 0o755, "there/a": 0o700, "there/a/b": 0o700}


def test_a_state(tmp_path):
    with contextlib.closing(Store(tmp_path / "x.db")) as store:
        store.set_value("a", "b")
        found = modes(tmp_path)
    assert found == dict.fromkeys(("x.db", "x.db-wal"), 0o600)


def test_a_state_that_is_open_in_this_process_stays_locked(tmp_path):
    with contextlib.closing(Store(tmp_path / "x.db")):
        for _ in range(2):
            with pytest.raises(UsageError, match="in use"):
                Store(tmp_path / "x.db")


def test_a_storage(tmp_path):
    with Depot(tmp_path / "x.db.storage" / "objects", tmp_path / "x.db.storage" / "index.sqlite") as depot:
        depot.write("gs://box/a", b"secret")
        found = modes(tmp_path)
    assert {found.pop(name) for name in [*found] if (tmp_path / name).is_dir()} == {0o700}
    assert {mode & 0o077 for mode in found.values()} == {0}
    assert len(found) >= 4


def test_logs(tmp_path, monkeypatch):
    monkeypatch.setenv("CPR_CACHE", str(tmp_path / "cache"))
    logs.folder()
    assert set(modes(tmp_path).values()) == {0o700}


def test_a_state_in_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"x\.db cannot be used .* \(No such file or directory\); give --state"):
        Store(tmp_path / "nope" / "x.db")
    assert not list(tmp_path.iterdir())


def test_a_file_where_the_storage_should_be(tmp_path):
    (tmp_path / "x.db.storage").touch()
    with pytest.raises(UsageError, match=r"objects cannot be stored in .*x\.db\.storage/objects \("):
        Depot(tmp_path / "x.db.storage" / "objects", tmp_path / "x.db.storage" / "index.sqlite")


def test_an_index_that_cannot_be_made(tmp_path):
    with pytest.raises(UsageError, match=r"index cannot be made \(No such file"):
        Depot(tmp_path / "objects", tmp_path / "nope" / "index")


def test_a_file_where_the_logs_should_be(tmp_path, monkeypatch):
    (tmp_path / "cache").touch()
    monkeypatch.setenv("CPR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LackingError, match=r"logs cannot be kept in .*cache.*set CPR_CACHE"):
        logs.folder()


@pytest.mark.parametrize(
    "values",
    [
        {"max_replicas": 0},
        {"page_size": 0},
        {"drain_s": -1.0},
        {"hold_s": float("inf")},
        {"batch_backoff_s": float("nan")},
        {"batch_fail_share": 1.01},
        {"deployment_timeout_s": 0.0},
        {"batch_retry_elapsed_s": 0.0},
        {"not_json_status": 200},
        {"too_large_status": 99},
    ],
)
def test_settings_out_of_their_range(values):
    ((name, value),) = values.items()
    with pytest.raises(UsageError, match=f"{name} must be from .* to .*, not {value}"):
        Settings(**values)
