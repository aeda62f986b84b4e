"""An engine whose images are Python scripts: real processes, real sockets, no build.

A test double on purpose. The harness is tested here for what servers do to it (die, hang, lie), which
needs a server for each fault and no image at all; the real engines have their own suite, and the
harness runs over those in test_on_engines.py.
"""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from cpr_kit.engine.protocol import Image
from cpr_kit.errors import ContainerError


class ScriptContainer:
    def __init__(self, run):
        self._run = run
        self._log = tempfile.TemporaryFile()
        self._last_logs = ""
        self._removed = False
        self.restarts = 0
        self._start()

    def _start(self):
        env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "CPR_SERVE_HOST": "127.0.0.1", **self._run.env}
        command = [*(self._run.command or (sys.executable, self._run.image)), *self._run.args]
        self._process = subprocess.Popen(command, env=env, stdout=self._log, stderr=subprocess.STDOUT)

    def _end(self, grace_s):
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def id(self):
        return str(self._process.pid)

    @property
    def host_port(self):
        return self._run.port

    def status(self):
        if self._removed:
            return "removed"
        return "running" if self._process.poll() is None else "exited"

    def exit_code(self):
        return self._process.poll()

    def logs(self):
        if not self._removed:
            self._last_logs = os.pread(self._log.fileno(), 1 << 20, 0).decode()
        return self._last_logs

    def follow(self):
        self._process.wait()
        yield from self.logs().splitlines()

    def exec(self, command, timeout_s):
        if self.status() != "running":
            raise ContainerError(f"{command[0]} cannot run: the container has ended")
        try:
            return subprocess.run(command, timeout=timeout_s, env=dict(self._run.env), check=False).returncode
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error

    def restart(self):
        self._end(grace_s=5)
        self.restarts += 1
        self._start()

    def remove(self, grace_s=10.0):
        if not self._removed:
            self._end(grace_s)
            self.logs()
            self._log.close()
            self._removed = True

    def crash(self):
        self._process.kill()
        self._process.wait()


class ScriptEngine:
    name = "script"

    def __init__(self):
        self.runs = []
        self.containers = []

    def build(self, build, output):
        output(f"a script needs no build: {build.tag}")
        return Image(reference=build.tag, id=build.tag)

    def image(self, reference):
        return Image(reference=reference, id=reference) if Path(reference).exists() else None

    def remove_image(self, reference):
        pass

    def locate(self, mount):
        return str(mount.source)

    def listen_port(self, port, host_port):
        return host_port or free_port()

    def run(self, run):
        self.runs.append(run)
        self.containers.append(ScriptContainer(run))
        return self.containers[-1]

    def left_running(self):
        return [container for container in self.containers if container.status() != "removed"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
