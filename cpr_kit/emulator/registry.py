"""Artifact Registry on this machine, and which image a model gets ("Custom container requirements").

The service takes the image in when a model is uploaded: later pushes to its tag do not change the version. Here the
local registry is asked first, since on Vertex AI only what was pushed exists, then the engine. Where there is no
registry program, or the engine has no containers, images stay in the engine and a push changes nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast
from urllib.parse import quote

from cpr_kit.emulator import private, registry_front
from cpr_kit.emulator.errors import ApiError, failed_precondition
from cpr_kit.emulator.serving.launching import build_command
from cpr_kit.engine import ports
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.protocol import Engine, Image
from cpr_kit.engine.reaper import guarded
from cpr_kit.engine.registry import ENGINE, is_googles
from cpr_kit.errors import CprError, UsageError

PROGRAMS = ("docker-registry", "registry")
_START_S = 10.0
_POLL_S = 0.005
_TIMEOUT_S = 30.0
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
# Ends the registry when the pipe from the emulator ends, also where the emulator was killed with its reaper.
_LEASH = """\
exec 3<&0
"$0" serve "$1" 3<&- &
registry=$!
{ cat <&3; kill "$registry"; } >/dev/null 2>&1 &
wait "$registry"
"""
_SHORT = len("sha256:") + 12


@dataclass(frozen=True)
class Pushed:
    """An image in the local registry. `config` is its id where an engine names images by it; "" for an index."""

    repository: str
    digest: str
    config: str

    @property
    def name(self) -> str:
        """Without the registry's address, which is another one after a restart."""
        return f"{self.repository}@{self.digest}"


class Registry:
    """`start` and `close` may be called from any thread, also at once; the rest blocks too.

    `folder` keeps what is pushed. `note` gets what a user may not expect.
    """

    def __init__(self, folder: Path, scratch: Path, note: Callable[[str], None]) -> None:
        self.address = ENGINE
        """HOST:PORT, or "engine"."""
        self.programs: Path | None = None
        """The folder with a `docker` of the emulator's own, for the head of PATH; None where there is no client."""
        self._folder = folder
        self._scratch = scratch
        self._note = note
        self._engine: Engine | None = None
        self._pulled: set[str] = set()
        self._closing = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._closed = False

    def start(self, engine: Engine) -> None:
        """Without a registry program everything works all the same, by the engine's own images."""
        with self._lock:
            if self._closed:
                return
            self._engine = engine
            if not isinstance(engine, DockerEngine):
                return
            if shutil.which("docker"):
                self.programs = _own_client(self._scratch / "bin")
            program = next(filter(None, map(shutil.which, PROGRAMS)), None)
            if program is not None:
                self.address = self._serve(program)

    def close(self) -> None:
        """What was pulled from the registry into the engine goes with it."""
        with self._lock:
            self._closed = True
            for reference in self._pulled:
                with contextlib.suppress(CprError):
                    self._there.remove_image(reference)
            self._pulled.clear()
            self._closing.close()

    def ingest(self, reference: str) -> str:
        """What a model version keeps of its image, for `resolve`. Raises FAILED_PRECONDITION when it is nowhere."""
        with _told(reference):
            pushed = self._find(reference)
            image = self._named(reference)
            if pushed is not None:
                identity = self._take(pushed)
                if image is not None and image.id != identity:
                    self._note(
                        f"{reference}: the model gets the image that was pushed ({identity[:_SHORT]}); this machine's "
                        f"own ({image.id[:_SHORT]}) is another one, which counts once it is pushed"
                    )
                return f"{identity} {pushed.name}"
            if image is not None:
                return image.id
            raise failed_precondition(self._nowhere(reference))

    def _named(self, reference: str) -> Image | None:
        """The engine's own. Where images stay in it, a push answers with an image's id for its digest."""
        image = self._there.image(reference)
        _, at, digest = reference.partition("@")
        if image is None and at and self.address == ENGINE:
            image = self._there.image(digest)
        return image

    def resolve(self, reference: str, ingested: str | None) -> str:
        """The id of the image that a version has, in the engine by then. `ingested` None: as `reference` is now."""
        identity, _, name = (ingested or self.ingest(reference)).partition(" ")
        with _told(reference):
            if self._there.image(identity) is not None:
                return identity
            repository, _, digest = name.partition("@")
            if name and self.address != ENGINE and self._asked(repository, digest):
                return self._take(Pushed(repository, digest, ""))
        raise failed_precondition(
            f"The image {reference} that this model version was uploaded with ({identity[:_SHORT]}) is gone: it was "
            "removed, or built anew under its name. Upload the model again."
        )

    def _serve(self, program: str) -> str:
        listens = self._scratch / "registry.socket"
        process = self._closing.enter_context(_running(program, listens, self._folder, self._scratch))
        if _answers(process, listens):
            return f"{ports.HOST}:{self._closing.enter_context(registry_front.serving(listens))}"
        self._closing.close()
        log = (self._scratch / "registry.log").read_text(errors="replace").strip().splitlines()[-1:]
        self._note(f"{program} does not start ({' '.join(log)}): pushed images stay in the engine")
        return ENGINE

    def _find(self, reference: str) -> Pushed | None:
        if self.address == ENGINE or not is_googles(reference):
            return None
        repository, at, digest = reference.partition("@")
        head, slash, last = repository.rpartition("/")
        last, _, tag = last.partition(":")
        return self._asked(head + slash + last, digest if at else tag or "latest")

    def _asked(self, repository: str, name: str) -> Pushed | None:
        """By tag or digest."""
        connection = http.client.HTTPConnection(self.address, timeout=_TIMEOUT_S)
        try:
            path = f"/v2/{quote(repository)}/manifests/{quote(name)}"
            connection.request("GET", path, headers={"Accept": ", ".join(_MANIFESTS)})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise failed_precondition(f"The emulator's registry at {self.address} does not answer: {error}") from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            return None
        digest = response.headers["Docker-Content-Digest"]
        return Pushed(repository, digest, json.loads(body).get("config", {}).get("digest", ""))

    def _take(self, pushed: Pushed) -> str:
        """The id under which the engine has a pushed image; pulled by its digest where it does not have it yet."""
        for known in filter(None, (pushed.config, pushed.digest)):
            if (image := self._there.image(known)) is not None:
                return image.id
        reference = f"{self.address}/{pushed.name}"
        cast("DockerEngine", self._there).pull(reference, lambda _: None)
        self._pulled.add(reference)
        image = self._there.image(reference)
        if image is None:
            raise failed_precondition(f"The image {pushed.name} was pulled, but the engine does not have it.")
        return image.id

    def _nowhere(self, reference: str) -> str:
        name, at, digest = reference.partition("@")
        build = build_command(name, self._there)
        engine = f"this machine's {self._there.name} engine"
        if at:
            why = f"nobody has pushed {digest[:_SHORT]} under that name to the emulator's registry ({self.address})"
            if self.address == ENGINE:
                why = f"{engine} has no image {digest[:_SHORT]}"
            return (
                f"The image {reference} is not found: {why}. Build it: {build}; push it, and name the digest that the "
                "push answers with."
            )
        if self.address == ENGINE:
            return f"The image {reference} is not found: {engine} has none of that name. Build it: {build}"
        if is_googles(reference):
            return (
                f"The image {reference} is not found: nobody has pushed it to the emulator's registry "
                f"({self.address}), and {engine} has none of that name. Build it: {build}; push it: docker push "
                f"{reference}"
            )
        return (
            f"The image {reference} is not found: {engine} has none of that name, and it is no name at Artifact "
            f"Registry that could have been pushed. Build it: {build}"
        )

    @property
    def _there(self) -> Engine:
        assert self._engine is not None
        return self._engine


@contextlib.contextmanager
def _told(reference: str) -> Iterator[None]:
    """The engine's errors in the words of the API."""
    try:
        yield
    except ApiError:
        raise
    except CprError as error:
        raise failed_precondition(f"The image {reference} cannot be had: {error}") from error


def _own_client(folder: Path) -> Path:
    """The `docker` that knows where Google's registries are under the emulator."""
    folder.mkdir()
    client = folder / "docker"
    client.write_bytes(resources.files("cpr_kit.emulator").joinpath("docker.sh").read_bytes())
    client.chmod(0o755)
    return folder


@contextlib.contextmanager
def _running(program: str, listens: Path, folder: Path, scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    try:
        private.folder(folder)
    except OSError as error:
        raise UsageError(
            f"pushed images cannot be kept in {folder} ({error.strerror}): remove what is there, or give --state "
            "another file"
        ) from error
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"net": "unix", "addr": listens.name},  # in its working folder: a socket's path must be short
    }
    path = scratch / "registry.json"
    path.write_text(json.dumps(config))  # which is YAML too
    # The program takes REGISTRY_* over its file; and it is not to report to anyone.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "OTEL_"))}
    with (scratch / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", _LEASH, program, str(path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=scratch,
            env={**environ, "OTEL_TRACES_EXPORTER": "none"},
            umask=0o077,
            start_new_session=True,
        )
    assert process.stdin is not None
    with process.stdin, guarded(process):
        yield process


def _answers(process: subprocess.Popen[bytes], listens: Path) -> bool:
    """Waits for it; False when it ended, or has not listened in time."""
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(listens))
            return process.poll() is None
        time.sleep(_POLL_S)
    return False
