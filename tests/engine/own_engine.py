"""A Docker Engine of a test's own: on a small disk in memory, without a network, and free to be killed."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import docker

BASE = "cpr-kit-tests/tiny:1"
"""The image that the engine starts with: a shell and what the tests call, and no Python."""
_PROGRAMS = ("sh", "sleep", "head", "cat", "echo", "mkdir", "chmod", "rm")
_SERVE = """\
mount -t proc proc /proc && mkdir disk && mount -t tmpfs -o size=$1 tmpfs disk && exec dockerd -H unix://$PWD/sock \
  --data-root $PWD/disk/data --exec-root $PWD/disk/exec --pidfile $PWD/disk/pid --iptables=false --ip-masq=false
"""


def lack() -> str | None:
    """Why there can be none here."""
    if os.geteuid() != 0:
        return "an engine of one's own needs root"
    missing = [name for name in ("dockerd", "unshare") if shutil.which(name) is None]
    return f"{missing[0]} is not installed" if missing else None


class OwnEngine:
    def __init__(self, size: str = "64m") -> None:
        self._size = size
        self.folder = Path(tempfile.mkdtemp(prefix="cpr-own-"))
        self.environ = {**os.environ, "DOCKER_HOST": f"unix://{self.folder}/sock"}
        # In namespaces of its own: whatever it mounts and starts ends with it, however it ends.
        apart = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*apart, "sh", "-c", _SERVE, "sh", size],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.client = self._connect()
        self.client.api.import_image_from_data(_tiny(), *BASE.split(":"), changes=["ENV PATH=/bin:/usr/bin"])

    def _connect(self) -> docker.DockerClient:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.folder / "sock"))
                return docker.DockerClient(base_url=self.environ["DOCKER_HOST"])
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def has(self) -> tuple[set[str], set[str]]:
        """The ids of its images, intermediate ones too, and of its containers."""
        images = {image["Id"] for image in self.client.api.images(all=True)}
        return images, {container["Id"] for container in self.client.api.containers(all=True)}

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        self.client.close()
        self.kill()
        shutil.rmtree(self.folder)


def _tiny() -> bytes:
    """A root file system of a few of this machine's programs and the libraries that they load."""
    files = {f"/bin/{name}": str(shutil.which(name)) for name in _PROGRAMS}
    for program in list(files.values()):
        said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        files |= {word: word for word in said.split() if word.startswith("/")}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for inside, path in sorted(files.items()):
            archive.add(os.path.realpath(path), arcname=inside.lstrip("/"))
    return buffer.getvalue()
