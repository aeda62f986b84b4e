import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cpr_kit.cli.target import _passing_tag
from cpr_kit.engine.choose import choose
from cpr_kit.errors import CprError

SAMPLE = '{"instances": [1, 2]}'


def environment(**changes):
    names = {name: value for name, value in os.environ.items() if not name.startswith(("CPR_", "AIP_"))}
    if "CPR_CACHE" in os.environ:
        names["CPR_CACHE"] = os.environ["CPR_CACHE"]
    return {**names, **changes}


@pytest.fixture(scope="session")
def cpr():
    """cpr("build", folder) runs the command as a user would; the finished process."""

    def run(*arguments, stdin="", cwd=None, **changes):
        command = [sys.executable, "-m", "cpr_kit", *map(str, arguments)]
        return subprocess.run(
            command, input=stdin, cwd=cwd, env=environment(**changes), capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture
def start():
    """start("serve", folder) -> (process, first line of its output as JSON); ended at the end of the test."""
    with contextlib.ExitStack() as stack:

        def run(*arguments):
            command = [sys.executable, "-m", "cpr_kit", *map(str, arguments), "--json"]
            process = stack.enter_context(
                subprocess.Popen(
                    command,
                    env=environment(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
            stack.callback(end, process)
            return process, json.loads(process.stdout.readline())

        yield run


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=20)
    process.kill()


@pytest.fixture
def until():
    def wait(condition, seconds=20):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if condition():
                    return
            time.sleep(0.05)
        raise AssertionError("it did not come true")

    return wait


@pytest.fixture(scope="session")
def doubles(tmp_path_factory):
    """A project without any requirement that answers twice what it is given."""
    folder = tmp_path_factory.mktemp("projects") / "doubles"
    write(folder)
    yield folder
    # What the tests built on a container engine, under its own name and under that of a passing run.
    with contextlib.suppress(CprError):
        for image in ("doubles:latest", _passing_tag(folder.resolve())):
            choose("docker").engine.remove_image(image)


def write(folder: Path, factor=2, body='{"predictions": [self.factor * x for x in request["instances"]]}'):
    folder.mkdir(exist_ok=True)
    (folder / "sample.json").write_text(SAMPLE)
    (folder / "expected.json").write_text('{"predictions": [2, 4]}')
    (folder / "predictor.py").write_text(
        textwrap.dedent(
            f"""
            from cpr_kit import Predictor

            class Doubles(Predictor):
                def load(self, artifacts_uri):
                    self.factor = {factor}

                def predict(self, request):
                    return {body}
            """
        )
    )
    (folder / "cpr.toml").write_text(
        '[model]\npredictor = "predictor:Doubles"\n[[check]]\nrequest = "sample.json"\nexpect = "expected.json"\n'
    )


@pytest.fixture
def project(tmp_path):
    def make(**changes):
        folder = tmp_path / "project"
        write(folder, **changes)
        return folder

    return make
