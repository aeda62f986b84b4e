from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cpr_kit.engine.protocol import LABEL
from cpr_kit.engine.reaper import reaper, start_time, temporary_folder

ROOT = Path(__file__).parents[2]
PROGRAM = """\
import json, os, sys, time
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Run
from cpr_kit.engine.reaper import make_folder, reaper

engine = choose({engine!r}).engine
port = engine.listen_port(8080, None)
container = engine.run(Run(image={image!r}, port=port, env={{"AIP_HTTP_PORT": str(port)}}))
folder = make_folder("cpr-tests-")
(folder / "file").write_text("x")
started = dict(id=container.id, folder=str(folder), session=reaper().session, reaper=reaper()._process.pid)
{before}
print(json.dumps(started), flush=True)
{end}
"""
ENDS = {
    "kill -9": ("time.sleep(600)", signal.SIGKILL),
    "ctrl-c": ("time.sleep(600)", signal.SIGINT),
    "sigterm": ("time.sleep(600)", signal.SIGTERM),
    "end": ("", None),
    "exception": ("raise SystemExit(3)", None),
    "hard exit": ("os._exit(1)", None),
    "kill -9 with a forked child alive": ("time.sleep(600)", signal.SIGKILL),
}


@pytest.fixture
def clean_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_outlives_the_program_that_started_it(engine, image, end, wait_for, clean_environment, tmp_path):
    last_line, how = ENDS[end]
    before = "os.fork() or time.sleep(600)" if "fork" in end else ""
    text = PROGRAM.format(engine=engine.name, image=image.reference, end=last_line, before=before)
    program = subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=clean_environment,
        cwd=tmp_path,
        start_new_session=True,
    )
    with program:
        try:
            started = json.loads(program.stdout.readline())
            if how:
                assert Path(started["folder"], "file").exists()
                assert exists(engine, started)
                # To the whole group for Ctrl-C, as a terminal does it.
                (os.killpg if how == signal.SIGINT else os.kill)(program.pid, how)
            program.wait(30)
            wait_for(lambda: not exists(engine, started))
            wait_for(lambda: not Path(started["folder"]).exists())
            wait_for(lambda: start_time(started["reaper"]) is None)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)  # a forked child is all that may be left of the group


def exists(engine, started) -> bool:
    if engine.name == "process":
        return start_time(int(started["id"])) is not None
    return bool(engine._client.containers.list(all=True, filters={"label": f"{LABEL}={started['session']}"}))


def test_a_temporary_folder_is_gone_after_its_block():
    with temporary_folder("cpr-tests-") as folder:
        (folder / "sub").mkdir()
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    assert ("folder", str(folder)) not in reaper()._held


def test_a_program_that_starts_nothing_has_no_reaper(clean_environment):
    text = "import cpr_kit.engine.choose, cpr_kit.engine.reaper as r; assert r._reaper is None"
    subprocess.run([sys.executable, "-W", "error", "-c", text], env=clean_environment, check=True, timeout=30)


def test_a_number_given_to_another_process_is_left_alone(clean_environment):
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    text = (
        "from cpr_kit.engine.reaper import reaper\n"
        f"reaper().register('process', '{stranger.pid} 1')\n"
        "reaper().register('process', '999999999 5')\n"
    )
    subprocess.run([sys.executable, "-c", text], env=clean_environment, check=True, timeout=60)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_what_is_registered_twice_is_guarded_until_unregistered_twice(clean_environment, tmp_path):
    folder = tmp_path / "kept"
    for times, left in ((1, False), (2, True)):
        folder.mkdir(exist_ok=True)
        text = (
            "from cpr_kit.engine.reaper import reaper\n"
            f"for _ in range(2): reaper().register('folder', {str(folder)!r})\n"
            f"for _ in range({times}): reaper().unregister('folder', {str(folder)!r})\n"
        )
        subprocess.run([sys.executable, "-W", "error", "-c", text], env=clean_environment, check=True, timeout=60)
        assert folder.exists() is left


@pytest.mark.engine
def test_a_container_whose_making_was_interrupted_is_removed(clean_environment):
    program = """
import os
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Run
from cpr_kit.engine.reaper import reaper

engine = choose("docker").engine
api = engine._client.api
create = api.create_container_from_config

def interrupted(*args, **kwargs):
    create(*args, **kwargs)
    raise KeyboardInterrupt

api.create_container_from_config = interrupted
try:
    engine.run(Run(image="python:3.11-slim", port=8080, command=("sleep", "600")))
except KeyboardInterrupt:
    print(reaper().session)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment, capture_output=True, text=True, check=True
    )
    import docker

    with contextlib.closing(docker.from_env()) as client:
        assert not client.containers.list(all=True, filters={"label": f"{LABEL}={done.stdout.strip()}"})


def test_unregistering_late_at_the_end_is_no_error(clean_environment):
    program = """
import atexit
held = []
atexit.register(lambda: held[0].unregister("folder", "/nonexistent/x"))
from cpr_kit.engine.reaper import reaper
held.append(reaper())
held[0].register("folder", "/nonexistent/x")
"""
    done = subprocess.run([sys.executable, "-c", program], env=clean_environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
