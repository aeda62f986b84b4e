"""Artifacts in a folder of this machine: shared by processes, private to the user, kept and removed; and trust."""

import contextlib
import gzip
import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import pytest
from bucket_server import BucketServer, Fault, Stored

from cpr_kit.errors import StartError
from cpr_kit.runtime import artifacts
from cpr_kit.runtime.storage import depot

SCRIPT = Path(__file__).with_name("fetching_process.py")


class Process:
    """A process that fetches, and lives until `end` or `kill`."""

    def __init__(self, server, temporary, *words, before=(), **options):
        self.popen = subprocess.Popen(
            [*before, sys.executable, SCRIPT, "gs://bucket/model", *words],
            env={**os.environ, **server.environ, "TMPDIR": str(temporary)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    def said(self):
        line = self.popen.stdout.readline()
        return json.loads(line or '{"error": "nothing"}')

    def folder(self):
        said = self.said()
        assert "folder" in said, said
        return Path(said["folder"])

    def error(self):
        return self.said()["error"]

    def end(self):
        self.popen.stdin.close()
        assert self.popen.wait(30) == 0

    def kill(self):
        self.popen.kill()
        self.popen.wait()

    def close(self):
        self.kill()
        self.popen.stdin.close()
        self.popen.stdout.close()


@pytest.fixture
def bucket():
    with BucketServer(**{f"model/{number}": bytes([number]) * 100_000 for number in range(20)}) as server:
        yield server


@pytest.fixture
def process(bucket, tmp_path):
    """process("fork") -> Process, which is ended with the test."""
    with contextlib.ExitStack() as stack:

        def start(*words, **options):
            made = Process(bucket, tmp_path, *words, **options)
            stack.callback(made.close)
            return made

        yield start


def wait_until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Once a machine.


def test_of_many_processes_at_once_one_downloads(process, bucket):
    processes = [process() for _ in range(6)]
    folders = {each.folder() for each in processes}
    assert len(folders) == 1
    assert sorted(asked.name for asked in bucket.downloads()) == sorted(bucket.objects)
    assert len(list(folders.pop().iterdir())) == 20


def test_the_files_go_with_the_last_process(process, tmp_path):
    first, second = process(), process()
    folder = first.folder()
    assert second.folder() == folder
    first.end()
    assert len(list(folder.iterdir())) == 20
    second.end()
    assert not list(tmp_path.glob("cpr-artifacts-*/*"))


def test_a_forked_child_leaves_the_files_to_its_parent(process, tmp_path):
    parent = process("fork")
    folder = parent.folder()
    assert len(list(folder.iterdir())) == 20
    parent.end()
    assert not folder.exists()


def test_what_a_worker_fetched_is_there_for_the_next_and_goes_with_their_parent(process, bucket, tmp_path):
    parent = process("workers")
    folder = parent.folder()
    assert parent.folder() == folder
    assert len(list(folder.iterdir())) == 20
    assert sorted(asked.name for asked in bucket.downloads()) == sorted(bucket.objects)
    parent.end()
    assert not list(tmp_path.glob("cpr-artifacts-*/*"))


def test_what_a_killed_process_left_is_verified_and_used(process, bucket):
    killed = process()
    folder = killed.folder()
    killed.kill()
    (folder / "3").write_bytes(bytes([4]) * 100_000)
    (folder / "5").unlink()
    (folder / "7").write_bytes(b"short")
    bucket.asked.clear()
    assert process().folder() == folder
    assert sorted(asked.name for asked in bucket.downloads()) == ["model/3", "model/5", "model/7"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name.removeprefix("model/"): stored.content for name, stored in bucket.objects.items()
    }


def test_a_file_that_was_changed_under_a_server_is_refused(process):
    folder = process().folder()
    (folder / "3").write_bytes(bytes([4]) * 100_000)
    assert "/3: its CRC32C is" in (error := process().error())
    assert "another process serves from it | stop that process" in error


def test_a_half_download_of_a_killed_process_goes_on(process, bucket):
    content = os.urandom(5 << 20)
    bucket.objects = {"model/large": Stored(content), "model/small": Stored(b"x")}
    bucket.fault = lambda asked: Fault(kind="stand", after=3 << 20) if asked.name == "model/large" else None
    killed = process()
    wait_until(lambda: len(bucket.downloads()) == 2)
    time.sleep(0.5)  # some of the first 3 MB arrive
    killed.popen.send_signal(signal.SIGKILL)
    killed.popen.wait()
    bucket.fault = lambda asked: None
    bucket.asked.clear()
    folder = process().folder()
    assert (folder / "large").read_bytes() == content
    assert [(asked.name, asked.start) for asked in bucket.downloads()] == [("model/large", 3 << 20)]


def test_a_half_download_of_another_generation_does_not(process, bucket):
    bucket.objects = {"model/large": Stored(b"x" * (5 << 20), without_checksum=True)}
    bucket.fault = lambda asked: Fault(kind="stand", after=3 << 20) if asked.name else None
    killed = process()
    wait_until(bucket.downloads)
    time.sleep(0.3)
    killed.kill()
    bucket.objects = {"model/large": Stored(b"y" * (5 << 20), generation=2, without_checksum=True)}
    bucket.fault = lambda asked: None
    folder = process().folder()
    assert (folder / "large").read_bytes() == b"y" * (5 << 20)
    assert bucket.downloads()[-1].start is None


def test_a_part_that_is_damaged_on_the_disk_is_fetched_anew(process, bucket, tmp_path):
    content = os.urandom(5 << 20)
    bucket.objects = {"model/large": Stored(content)}
    bucket.fault = lambda asked: Fault(kind="stand", after=3 << 20) if asked.name else None
    killed = process()
    wait_until(lambda: any(path.stat().st_size >= 3 << 20 for path in tmp_path.rglob("parts/*")))
    time.sleep(0.3)
    killed.kill()
    (part,) = tmp_path.rglob("parts/*")
    with part.open("r+b") as file:
        file.write(b"damaged")
    bucket.fault = lambda asked: None
    assert (process().folder() / "large").read_bytes() == content


def test_a_process_that_waits_takes_over_from_one_that_is_killed(process, bucket):
    bucket.fault = lambda asked: Fault(kind="stand", after=10) if asked.name else None
    killed = process()
    wait_until(bucket.downloads)
    waits = process()
    wait_until(lambda: len(bucket.asked) - len(bucket.downloads()) == 2)
    bucket.fault = lambda asked: None
    killed.kill()
    assert len(list(waits.folder().iterdir())) == 20


def test_what_was_left_long_ago_is_removed(process, bucket, tmp_path):
    killed = process()
    old = killed.folder().parent
    killed.kill()
    lock = old.with_suffix(".lock")
    os.utime(lock, (time.time() - 100_000,) * 2)
    serving = process()
    assert serving.folder().parent == old  # the same artifacts are used, not removed
    serving.kill()
    os.utime(lock, (time.time() - 100_000,) * 2)
    bucket.objects["model/new"] = Stored(b"x")
    process().folder()
    assert not old.exists()
    assert not lock.exists()


# Private.


def test_the_folder_is_the_users_alone(process, tmp_path):
    folder = process().folder()
    for path in (folder, *folder.parents):
        if path == tmp_path:
            break
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _others_may_write(root):
    root.mkdir()
    root.chmod(0o777)


def _belongs_to_another(root):
    if os.geteuid():
        pytest.skip("only root may give a folder away")
    root.mkdir(mode=0o700)
    os.chown(root, 12345, -1)


def _is_a_link(root):
    (root.parent / "elsewhere").mkdir(mode=0o700)
    root.symlink_to(root.parent / "elsewhere")


@pytest.mark.parametrize("make", [_others_may_write, _belongs_to_another, _is_a_link])
def test_a_folder_that_others_could_have_filled_is_refused(process, bucket, tmp_path, make):
    make(tmp_path / f"cpr-artifacts-{os.geteuid()}")
    assert "is not a folder of this user's alone" in process().error()
    assert not bucket.downloads()


# The disk.


@pytest.fixture
def tiny_disk(tmp_path):
    """A command that runs another with 4 MB of disk under TMPDIR, in a mount namespace of its own."""
    command = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=4m none "{tmp_path}" && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    return command


def test_a_disk_that_is_too_small_is_said_before_the_download(process, bucket, tiny_disk):
    bucket.objects = {"model/a": Stored(b"x" * (9 << 20))}
    error = process(before=tiny_disk).error()
    assert "the artifacts do not fit in" in error
    assert f"{9 << 20:,} bytes are still to come" in error
    assert "No space left on device" in error
    assert "set TMPDIR" in error
    assert not bucket.downloads()


def test_a_disk_that_is_full_midway_is_said_and_left_empty(process, bucket, tiny_disk, tmp_path):
    """Small as it is stored, and larger than the disk when it is unpacked: no check before can know."""
    bucket.objects = {"model/a": Stored(gzip.compress(bytes(9 << 20)), gzipped=True), "model/b": Stored(b"x")}
    before = [*tiny_disk, "sh", "-c", f'"$@"; find "{tmp_path}" -type f -size +0 >&2', "sh"]
    failed = process(before=before, stderr=subprocess.PIPE)
    assert "No space left on device" in failed.error()
    assert failed.popen.stderr.read() == ""
    failed.popen.stderr.close()


def test_a_limit_on_files_is_said(process, bucket):
    bucket.objects = {"model/a": Stored(b"x" * (9 << 20))}
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # noqa: E731
    assert "File too large" in process(preexec_fn=limit).error()


def test_a_folder_that_may_not_be_written_is_said(bucket, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    with pytest.raises(StartError, match="no folder for the artifacts can be made at /proc/.*TMPDIR"):
        depot.fetch("gs://bucket/model", bucket.environ)


def test_a_server_on_a_full_disk_ends_with_its_reason(bucket, tiny_disk, tmp_path):
    bucket.objects = {"model/a": Stored(b"x" * (9 << 20))}
    env = {
        **os.environ, **bucket.environ, "TMPDIR": str(tmp_path), "AIP_STORAGE_URI": "gs://bucket/model",
        "AIP_HTTP_PORT": str(bucket.port + 1 if bucket.port < 65000 else 65000), "CPR_SERVE_HOST": "127.0.0.1",
        "PREDICTOR_MODULE": "fetches", "PREDICTOR_CLASS": "Fetches",
    }  # fmt: skip
    done = subprocess.run(
        [*tiny_disk, sys.executable, "-m", "cpr_kit.runtime"],
        cwd=Path(__file__).parent / "zoo", env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the artifacts do not fit in" in done.stderr.splitlines()[-1]


# A folder here.


def test_a_folder_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert artifacts.fetch("") == artifacts.fetch(str(tmp_path)) == tmp_path
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="is a file"):
        artifacts.fetch("file")
    with pytest.raises(StartError, match="does not exist"):
        artifacts.fetch("nowhere")


def test_the_first_name_is_chosen(tmp_path):
    (tmp_path / "b").touch()
    (tmp_path / "c").touch()
    assert artifacts.choose(tmp_path, ("a", "b", "c")) == tmp_path / "b"
    with pytest.raises(StartError, match=r"it holds b, c \| put one of x, y there"):
        artifacts.choose(tmp_path, ("x", "y"))


# Trust.


@pytest.fixture(params=["model.pkl", "model.joblib"])
def pickled(request, tmp_path, monkeypatch):
    monkeypatch.delenv("CPR_MODEL_TRUSTED", raising=False)
    path = tmp_path / request.param
    joblib.dump([1, 2], path) if path.suffix == ".joblib" else path.write_bytes(pickle.dumps([1, 2]))
    return path


def test_the_refusal_of_a_pickle_names_the_digest_that_pins_it(pickled, monkeypatch):
    digest = f"sha256:{hashlib.sha256(pickled.read_bytes()).hexdigest()}"
    with pytest.raises(StartError, match=rf'{pickled.name} is a pickle.*trusted_digests = \["{digest}"\]') as error:
        artifacts.unpickle(pickled, {})
    assert "trusted = true" in error.value.remedy

    monkeypatch.setenv("CPR_MODEL_TRUSTED_DIGESTS", f"sha256:{'0' * 64},{digest}")
    assert artifacts.unpickle(pickled, {}) == [1, 2]
    assert artifacts.trusts(pickled, {})


def test_a_pinned_pickle_that_was_changed_is_refused(pickled, monkeypatch):
    monkeypatch.setenv("CPR_MODEL_TRUSTED_DIGESTS", artifacts.digest(pickled))
    pickled.write_bytes(pickle.dumps([1, 3]))
    with pytest.raises(StartError, match="is a pickle"):
        artifacts.unpickle(pickled, {})
    assert not artifacts.trusts(pickled, {})


@pytest.mark.parametrize("options", [{"trusted": False}, {"allowed_extensions": [".skops"]}])
def test_what_load_was_told_stands_above_a_digest(pickled, monkeypatch, options):
    monkeypatch.setenv("CPR_MODEL_TRUSTED_DIGESTS", artifacts.digest(pickled))
    with pytest.raises(StartError, match="is a pickle"):
        artifacts.unpickle(pickled, options)
    assert not artifacts.trusts(pickled, options)


@pytest.mark.parametrize("options", [{"trusted": True}, {"allowed_extensions": [".pkl", ".joblib"]}])
def test_a_trusted_pickle_loads(pickled, options):
    assert artifacts.unpickle(pickled, options) == [1, 2]


@pytest.mark.parametrize("text", ["abc", "sha256:abc", f"sha256:{'A' * 64}", f"md5:{'0' * 32}"])
def test_a_digest_that_is_none_is_refused(pickled, monkeypatch, text):
    monkeypatch.setenv("CPR_MODEL_TRUSTED_DIGESTS", text)
    with pytest.raises(StartError, match=f'CPR_MODEL_TRUSTED_DIGESTS has "{text}"'):
        artifacts.unpickle(pickled, {})
