"""Nothing outlives the program that started it, even when that program is killed.

One small process a program, started before the first container, process or folder. It reads what it
has to guard from a pipe. The pipe ends when the program ends, however that happens; then the reaper
removes all that is still registered.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cpr_kit.engine.protocol import LABEL
from cpr_kit.errors import LackingError

FULL = (errno.ENOSPC, errno.EDQUOT)
Item = tuple[str, str]
"""("container", value of the label), ("process", "<group> <start time>") or ("folder", path)."""

_EXIT_WAIT_S = 30.0
_TERM_WAIT_S = 10.0
_LATE_CONTAINER_S = 1.0


class Reaper:
    """The program's end of the pipe. Registering the same thing twice needs unregistering it twice."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        # With the program's number, so that a container left behind can be told from one in use.
        self.session = f"{self._owner}-{uuid.uuid4().hex[:12]}"
        self._held: Counter[Item] = Counter()
        self._lock = threading.Lock()
        self._process = _start()
        atexit.register(self._close)

    def register(self, kind: str, value: str) -> None:
        with self._lock:
            self._held[kind, value] += 1
            if self._held[kind, value] == 1:
                self._send("register", kind, value)

    def unregister(self, kind: str, value: str) -> None:
        with self._lock:
            if not self._held[kind, value]:
                return
            self._held[kind, value] -= 1
            if self._held[kind, value] == 0:
                del self._held[kind, value]
                self._send("unregister", kind, value)

    def abandon(self) -> None:
        """For a forked child: what the parent started is the parent's, and so is the pipe's life."""
        atexit.unregister(self._close)
        assert self._process.stdin is not None
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, self._process.stdin.fileno(), inheritable=False)
        os.close(nowhere)
        self._process.returncode = 0  # it is not this child's to wait for

    def _send(self, verb: str, kind: str, value: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # ValueError: closed, since this program is ending
            self._process.stdin.write(json.dumps([verb, kind, value]).encode() + b"\n")
            self._process.stdin.flush()

    def _close(self) -> None:
        """At a normal end: let the reaper remove what was forgotten, and wait for it."""
        if os.getpid() != self._owner:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._process.stdin.close()
            self._process.wait(_EXIT_WAIT_S)


_reaper: Reaper | None = None
_guard = threading.Lock()


def reaper() -> Reaper:
    """The program's reaper; the first call starts it."""
    global _reaper  # noqa: PLW0603 - one a program is the point
    with _guard:
        if _reaper is None:
            _reaper = Reaper()
            os.register_at_fork(after_in_child=_forget)
        return _reaper


def _forget() -> None:
    global _reaper, _guard  # noqa: PLW0603
    _guard = threading.Lock()
    if _reaper is not None:
        _reaper.abandon()
        _reaper = None


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder that is gone afterwards, and after a kill of this program too. Raises LackingError when it is full."""
    try:
        folder = make_folder(prefix)
        try:
            yield folder
        finally:
            remove_folder(folder)
    except OSError as exc:
        if exc.errno not in FULL:
            raise
        raise LackingError(
            f"no space is left in {tempfile.gettempdir()}; free some, or set TMPDIR to a folder of another disk"
        ) from exc


def make_folder(prefix: str) -> Path:
    """A temporary folder for `remove_folder` to remove."""
    # The name is registered before the folder exists: a kill in between must not leave it behind.
    folder = Path(tempfile.gettempdir()).resolve() / f"{prefix}{uuid.uuid4().hex[:12]}"
    reaper().register("folder", str(folder))
    folder.mkdir(mode=0o700)
    return folder


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    reaper().unregister("folder", str(folder))


@contextlib.contextmanager
def guarded(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Guard a process that leads a session of its own; its whole group is ended on leaving."""
    identity = process_identity(process.pid)
    reaper().register("process", identity)
    try:
        yield
    finally:
        if process.poll() is None:
            end_group(process.pid)
        process.wait()
        reaper().unregister("process", identity)


def process_identity(pid: int) -> str:
    return f"{pid} {start_time(pid) or 0}"


def start_time(pid: int) -> int | None:
    """When the process started, in ticks since boot; None when it is gone, or a zombie, or there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def end_group(group: int, wait_s: float = _TERM_WAIT_S) -> None:
    """SIGTERM to the group, SIGKILL to what is left of it after its leader went or `wait_s` passed."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + wait_s
        while start_time(group) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(group, signal.SIGKILL)


def _start() -> subprocess.Popen[bytes]:
    # By -c and not by file name: a script's own folder heads sys.path, and `import docker` would find
    # engine/docker.py. The parent's sys.path goes along, so that what it can import can be imported there.
    paths = [str(Path(path).absolute()) for path in sys.path if path]
    here = str(Path(__file__).absolute().parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", "from cpr_kit.engine.reaper import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, *paths])},
        start_new_session=True,  # Ctrl-C in the terminal is for the program, not for its reaper
    )


def main() -> None:
    """The reaper itself: read until the pipe ends, then remove what is left."""
    held: dict[Item, None] = {}
    for line in sys.stdin.buffer:
        if not line.endswith(b"\n"):
            break  # the program was killed while it wrote
        verb, kind, value = json.loads(line)
        if verb == "register":
            held[kind, value] = None
        else:
            held.pop((kind, value), None)
    _reap(held)


def _reap(held: dict[Item, None]) -> None:
    """Newest first, and containers and processes before the folders that they use."""
    newest = list(reversed(held))
    for kind, value in newest:
        if kind == "process":
            _reap_process(value)
    for kind, value in newest:
        if kind == "container":
            with contextlib.suppress(Exception):
                _reap_containers(value)
    for kind, value in newest:
        if kind == "folder":
            shutil.rmtree(value, ignore_errors=True)


def _reap_process(identity: str) -> None:
    group, started = (int(word) for word in identity.split())
    now = start_time(group)
    # Another start time: the number was given to somebody else. None: the leader ended, its group may not have.
    if now is None or started in (now, 0):
        end_group(group)


def _reap_containers(session: str) -> None:
    import docker

    client = docker.from_env()
    for pause in (0.0, _LATE_CONTAINER_S):
        time.sleep(pause)  # a container that was being created when the program died appears late
        for container in client.containers.list(all=True, filters={"label": f"{LABEL}={session}"}):
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True, v=True)
