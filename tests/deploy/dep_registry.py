"""A real registry on 127.0.0.1 (Debian's docker-registry), a relay before it that breaks connections, made-up images."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cpr_kit.deploy.registry.client import MANIFESTS, Client, Manifest
from cpr_kit.deploy.registry.names import Name
from cpr_kit.engine import ports

USER, PASSWORD = "someone", "secret"
_HTPASSWD = f"{USER}:$2b$04$mTgtONWobFEEPYoPSO2/P.nDMxrqazzx4HmWwP.qC86L/n5CFBnpu\n"
_START_S = 30.0
_CLOSED_S = 15.0
_OCI = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Registry:
    address: str
    folder: Path
    log: Path

    def name(self, path="serving/tiny:1"):
        return f"{self.address}/{path}"

    def has(self, digest):
        """Whether the registry keeps a blob, in whatever repository."""
        kind, _, value = digest.partition(":")
        return (self.folder / "docker/registry/v2/blobs" / kind / value[:2] / value / "data").is_file()


def lacking(what):
    """Skips where a developer's machine lacks something; where CI lacks it, that is a failure."""
    (pytest.fail if os.environ.get("CPR_REQUIRE_ENGINE") == "1" else pytest.skip)(what)


@contextlib.contextmanager
def serving(folder, *, login=False, data=None, **sections):
    """`data` is where it keeps its images, `login` asks for USER and PASSWORD."""
    program = shutil.which("docker-registry")
    if program is None:
        lacking("docker-registry, a program of Debian's, is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    port, data = ports.free(), data or folder / "data"
    config = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
        **sections,
    }
    if login:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    (folder / "config.json").write_text(json.dumps(config))
    log = folder / "log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "OTEL_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "serve", folder / "config.json"],
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        _listens(port, process)
        yield Registry(f"127.0.0.1:{port}", Path(data), log)
    finally:
        process.terminate()
        process.wait(30)


def _listens(port, process):
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail("docker-registry does not listen")


@dataclass
class Relay:
    """Passes connections on to `target`, and breaks the next `cuts` of them that carry more than `after` bytes.

    `way` is "up" for what clients send, "down" for what they get.
    """

    target: str
    after: int = 1 << 20
    cuts: int = 0
    way: str = "up"
    address: str = ""
    broken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list = field(default_factory=list)
    _ends: list = field(default_factory=list)

    @contextlib.contextmanager
    def serving(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.address = f"127.0.0.1:{listener.getsockname()[1]}"
            accepting = threading.Thread(target=self._accept, args=(listener,))
            accepting.start()
            try:
                yield self
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                accepting.join()
                left = self._left()
        assert not left, f"{left} connections were left open"

    def _left(self):
        """How many connections nobody has closed; they end now."""
        for thread in self._threads:
            thread.join(_CLOSED_S)
        left = sum(thread.is_alive() for thread in self._threads)
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        return left

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            host, _, port = self.target.partition(":")
            try:
                server = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            self._ends += (client, server)
            self._threads.append(threading.Thread(target=self._both, args=(client, server)))
            self._threads[-1].start()

    def _both(self, client, server):
        with client, server:
            up = threading.Thread(target=self._pump, args=(client, server, self.way == "up"))
            up.start()
            self._pump(server, client, self.way == "down")
            up.join()

    def _pump(self, source, target, may_break):
        passed = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                passed += len(piece)
                if may_break and passed > self.after and self._breaks():
                    break
                target.sendall(piece)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _breaks(self):
        with self._lock:
            if not self.cuts:
                return False
            self.cuts -= 1
            self.broken += 1
            return True


def digest_of(body):
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def put(reference, *, layers=(b"a layer",), architecture="amd64", variant=None):
    """An image that nobody built: its manifest. Any bytes are a layer to a registry."""
    config = {"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": []}, "config": {}}
    config |= {"variant": variant} if variant else {}
    with Client(Name.parse(reference), write=True) as client:
        return _put(client, json.dumps(config).encode(), layers, client.name.version)


def _put(client, config, layers, version):
    described = []
    for kind, body in (("config", config), *(("layer", layer) for layer in layers)):
        client.put_blob(digest_of(body), len(body), lambda body=body: iter([body]))
        media = f"application/vnd.oci.image.{'config.v1+json' if kind == 'config' else 'layer.v1.tar'}"
        described.append({"mediaType": media, "digest": digest_of(body), "size": len(body)})
    content = {"schemaVersion": 2, "mediaType": _OCI, "config": described[0], "layers": described[1:]}
    manifest = Manifest(_OCI, json.dumps(content, indent=1).encode())
    client.put_manifest(manifest, version or manifest.digest)
    return manifest


def put_index(reference, architectures=("amd64", "arm64")):
    """An index with an image for each, and an attestation as buildx adds one."""
    children = []
    with Client(Name.parse(reference), write=True) as client:
        for architecture in (*architectures, "unknown"):
            system = "unknown" if architecture == "unknown" else "linux"
            config = json.dumps({"os": system, "architecture": architecture}).encode()
            child = _put(client, config, [f"layer for {architecture}".encode()], None)
            platform = {"os": system, "architecture": architecture}
            children.append({"mediaType": _OCI, "digest": child.digest, "size": len(child.body), "platform": platform})
        content = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": children}
        index = Manifest(_INDEX, json.dumps(content).encode())
        client.put_manifest(index, client.name.version)
    return index


def served_digest(reference):
    """What the registry itself says, asked without any code of the kit."""
    host, _, path = reference.partition("/")
    repository, _, tag = path.rpartition(":")
    connection = http.client.HTTPConnection(host, timeout=10)
    with contextlib.closing(connection):
        connection.request(
            "HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": ", ".join((*MANIFESTS, _INDEX))}
        )
        response = connection.getresponse()
        response.read()
        return response.headers["Docker-Content-Digest"]


def log_in(folder, address, user=USER, password=PASSWORD):
    """What `docker login` leaves, in a folder for DOCKER_CONFIG."""
    import base64

    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))
    return folder


def load(engine, reference, layers, architecture="amd64"):
    """An image of the engine, made of tar layers with one file each; its id."""
    import docker

    config = {"os": "linux", "architecture": architecture, "config": {"Cmd": ["/nothing"]}}
    tars = [_tar({f"file{place}": body}) for place, body in enumerate(layers)]
    config["rootfs"] = {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]}
    body = json.dumps(config).encode()
    names = [f"{digest_of(tar)[7:]}.tar" for tar in tars]
    listing = [{"Config": "config.json", "RepoTags": [reference], "Layers": names}]
    files = {"config.json": body, "manifest.json": json.dumps(listing).encode(), **dict(zip(names, tars, strict=True))}
    with contextlib.closing(docker.from_env()) as client:
        client.images.load(_tar(files))
    return engine.image(reference).id


def _tar(files):
    import io
    import tarfile

    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return made.getvalue()
