"""A Python without the SDK: everything that is installed here, apart from what begins with google."""

import contextlib
import os
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
import requests

SITE = Path(sysconfig.get_path("purelib"))
KIT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site_without_google(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    for entry in SITE.iterdir():
        if not entry.name.startswith(("google", "vertexai")) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    (folder / "google_crc32c").symlink_to(SITE / "google_crc32c")
    return folder


@pytest.fixture(scope="session")
def python(site_without_google):
    """python(code, *more folders, cwd=...) -> what it printed; the folders come before all others."""

    def run(code, *folders, cwd="/", install=True, check=True, arguments=(), **environ):
        path = os.pathsep.join(map(str, (*folders, site_without_google, KIT)))
        start = "from cpr_kit.sdk import finder; finder.install()\n" if install else ""
        words = arguments or ("-c", start + code)
        done = subprocess.run(
            [sys.executable, "-S", "-B", "-W", "error", *words], capture_output=True, text=True, cwd=cwd,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **environ},
        )  # fmt: skip
        if not check:
            return done
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


class Server:
    def __init__(self, process, port, log):
        self.process, self.log = process, log
        self.url = f"http://127.0.0.1:{port}"
        self._session = requests.Session()
        self._session.trust_env = False

    def ready(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.first_health().status_code == 200:
                return self
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def first_health(self):
        """The answer to the first request that gets one."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.ConnectionError):
                return self.health()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def health(self):
        return self._session.get(f"{self.url}/health", timeout=30)

    def predict(self, data=None, **options):
        return self._session.post(f"{self.url}/predict", data, timeout=30, **options)

    def close(self):
        self._session.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path):
    """start(command, cwd=..., **environ) -> Server. The command is a list of words after `python`."""
    with contextlib.ExitStack() as stack:

        def run(words, cwd, **environ):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            environ = {
                "PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIP_HTTP_PORT": str(port),
                "AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict", "AIP_STORAGE_URI": str(tmp_path),
                "CPR_SERVE_HOST": "127.0.0.1", "CPR_SERVE_LOG_FORMAT": "text", "VERTEX_CPR_WEB_CONCURRENCY": "1",
                "PYTHONDONTWRITEBYTECODE": "1", **environ,
            }  # fmt: skip
            log = tmp_path / f"server-{port}.log"
            with log.open("w") as output:
                process = subprocess.Popen([sys.executable, *words], cwd=cwd, env=environ, stdout=output, stderr=output)
            server = Server(process, port, log)
            stack.callback(server.close)
            return server

        yield run


@pytest.fixture
def start_without_sdk(start, site_without_google):
    """The same in a Python without the SDK, whose start is that of an image."""

    def run(words, cwd, **environ):
        path = os.pathsep.join(map(str, (cwd, site_without_google, KIT)))
        code = "from cpr_kit.sdk import finder; finder.install(); import runpy, sys; "
        if words[0] == "-m":
            code += f"runpy.run_module({words[1]!r}, run_name='__main__', alter_sys=True)"
        else:
            code += f"runpy.run_path({words[0]!r}, run_name='__main__')"
        return start(["-S", "-c", code], cwd, PYTHONPATH=path, **environ)

    return run
