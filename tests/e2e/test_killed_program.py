"""A program that is killed takes all that it started with it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = Path(__file__).with_name("serves_until_killed.py")
TAG = "cpr-kit-e2e/killed:latest"


def test_nothing_outlives_a_program_that_is_killed(project, engine, snapshot, tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = snapshot(project)
    argv = [sys.executable, str(PROGRAM), str(project), engine.name, TAG]
    program = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary)})
    try:
        identity, port = program.stdout.readline().split()
        assert listens(int(port))
        assert exists(engine.name, identity)
    finally:
        program.kill()
        program.wait()
        program.stdout.close()

    try:
        wait_until(lambda: not exists(engine.name, identity) and not listens(int(port)))
        wait_until(lambda: not list(temporary.iterdir()))
        assert snapshot(project) == before
    finally:
        end(engine.name, identity)
        engine.remove_image(TAG)


def wait_until(check):
    deadline = time.monotonic() + 15
    while not check():
        assert time.monotonic() < deadline, "something is left"
        time.sleep(0.1)


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def exists(engine, identity):
    if engine == "process":
        return Path(f"/proc/{identity}").exists()
    import docker

    with contextlib.closing(docker.from_env()) as client:
        return any(each["Id"] == identity for each in client.api.containers(all=True))


def end(engine, identity):
    """What should have ended by itself."""
    if not exists(engine, identity):
        return
    if engine == "process":
        os.kill(int(identity), signal.SIGKILL)
        return
    import docker

    with contextlib.closing(docker.from_env()) as client:
        client.api.remove_container(identity, force=True)
