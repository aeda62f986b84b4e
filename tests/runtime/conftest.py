import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

ZOO = Path(__file__).parent / "zoo"


class Server:
    """The model server as a real process, and a client for it."""

    def __init__(self, process, port, log):
        self.process, self.port, self.log = process, port, log
        self.url = f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        self.session.trust_env = False

    def predict(self, json=None, **options):
        return self.session.post(f"{self.url}/predict", json=json, timeout=30, **options)

    def health(self):
        return self.session.get(f"{self.url}/health", timeout=30)

    def ready(self):
        return self.wait_for(200)

    def wait_for(self, status):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.ConnectionError):
                if self.health().status_code == status:
                    return self
            assert self.process.poll() is None, self.stderr() + self.stdout()
            time.sleep(0.02)
        raise AssertionError(f"never answered {status}")

    def stdout(self):
        return (self.log / "stdout").read_text()

    def stderr(self):
        return (self.log / "stderr").read_text()

    def end(self):
        """The exit code of a start that fails, and the last line of its log."""
        code = self.process.wait(30)
        return code, self.stderr().splitlines()[-1]


@pytest.fixture
def serve(tmp_path):
    """serve("answers:Doubles", handler=None, cwd=ZOO, **environment) -> Server; not yet ready.

    `script` is an entry point of the author's own, instead of the kit's.
    """
    with serving(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def serve_all(tmp_path_factory):
    """`serve` for servers that all tests of a file ask."""
    with serving(tmp_path_factory.mktemp("servers")) as start:
        yield start


@contextlib.contextmanager
def serving(tmp_path):
    with contextlib.ExitStack() as stack:

        def start(predictor=None, *, handler=None, script=None, cwd=ZOO, port=None, **environment):
            log = tmp_path / f"log{len(list(tmp_path.iterdir()))}"
            log.mkdir()
            port = port or free_port()
            env = {"PATH": os.environ["PATH"], "AIP_HTTP_PORT": str(port), "CPR_SERVE_HOST": "127.0.0.1"}
            env |= {"CPR_SERVE_LOG_FORMAT": "text", "VERTEX_CPR_WEB_CONCURRENCY": "1", **environment}
            for kind, reference in (("PREDICTOR", predictor), ("HANDLER", handler)):
                if reference:
                    env[f"{kind}_MODULE"], env[f"{kind}_CLASS"] = reference.split(":")
            stdout = stack.enter_context((log / "stdout").open("w"))
            stderr = stack.enter_context((log / "stderr").open("w"))
            command = [sys.executable, *([script] if script else ["-m", "cpr_kit.runtime"])]
            process = subprocess.Popen(command, cwd=cwd, env=env, stdout=stdout, stderr=stderr)
            stack.callback(process.wait)
            stack.callback(process.kill)
            server = Server(process, port, log)
            stack.callback(server.session.close)
            return server

        yield start


@pytest.fixture(scope="session")
def unused_port():
    return free_port


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
