"""The engine that needs no container engine: a virtual environment and a process of this machine."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cpr_kit.engine import causes, command, ports
from cpr_kit.engine.manifest import Manifest, digest, file_digest, tree_digest
from cpr_kit.engine.progress import TAIL
from cpr_kit.engine.protocol import Build, Image, Mount, Output, Run
from cpr_kit.engine.reaper import guarded, make_folder, process_identity, reaper, remove_folder
from cpr_kit.engine.store import Store
from cpr_kit.errors import BuildError, ContainerError, LackingError
from cpr_kit.source_state import LABEL

_HOST_VARIABLES = (
    *("HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
)
_ENVIRONMENT, _KIT, _CODE = "environments", "kits", "code"
_DAY_S = 86_400.0
_ENTRY_KEPT_S = 7 * _DAY_S
_RECORD_KEPT_S = 30 * _DAY_S
_COMMAND_NOT_FOUND = 127


class ProcessEngine:
    """Runs what `cpr_kit.build` makes, with this machine's Python.

    A mount is the source itself. Nothing keeps a process of the same user from writing to it:
    only a container engine can make artifacts read-only.
    """

    name = "process"

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._store = Store.default(environ)

    def build(self, build: Build, output: Output) -> Image:
        try:
            return self._build(build, output)
        except BrokenPipeError:
            raise  # of whoever read our output
        except OSError as exc:
            raise LackingError(f"{self._store.root} cannot be used: {exc}; free its disk, or set CPR_CACHE") from exc

    def _build(self, build: Build, output: Output) -> Image:
        manifest = Manifest.read(build.context)
        output(f"process engine: Python {platform.python_version()} of this machine, in {self._store.root}")
        if build.platform and build.platform != _platform():
            output(f"{build.platform} was asked for; a process runs on this machine's {_platform()}")
        key = manifest.environment_key + (f"-{uuid.uuid4().hex[:8]}" if build.no_cache else "")
        entries = {_ENVIRONMENT: key, _KIT: file_digest(manifest.kit), _CODE: tree_digest(manifest.code)}
        self._store.provide((_ENVIRONMENT, key), lambda folder: self._install(folder, manifest, output))
        self._store.provide((_KIT, entries[_KIT]), lambda folder: _unpack(manifest.kit, folder))
        self._store.provide((_CODE, entries[_CODE]), lambda folder: _copy(manifest.code, folder))
        name = _name(build.tag)
        record = _record(name, manifest, entries)
        before = self._store.read(name) or {}
        if before.get("id") == record["id"]:  # the same image, as a container engine's cache would have it
            record["created"] = before.get("created", record["created"])
        self._store.write(name, record)
        self._store.prune(_ENTRY_KEPT_S, _RECORD_KEPT_S)
        output(f"image {name} is ready")
        image = self.image(build.tag)
        assert image is not None
        return image

    def image(self, reference: str) -> Image | None:
        record = self._find(reference)
        if record is None:
            return None
        return Image(
            reference=reference,
            id=record["id"],
            env=record["env"],
            entrypoint=tuple(record["entrypoint"]),
            ports=tuple(record["ports"]),
            platform=_platform(),
            labels={LABEL: f"sha256:{code}"} if (code := record["entries"].get(_CODE)) else {},
            created=record.get("created", ""),
        )

    def tag(self, source: str, target: str) -> None:
        """Give an image a second name. Raises LackingError when this engine does not have it."""
        record = self._find(source)
        if record is None:
            raise LackingError(f"the process engine has no image {source}; build it: cpr build DIR -t {source}")
        name = _name(target)
        self._store.write(name, {**record, "name": name})

    def remove_image(self, reference: str) -> None:
        record = self._find(reference)
        if record is not None:
            self._store.remove(record["name"])

    def files(self, reference: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        """Of what was installed alone, under the paths that an image of the same has; Python is this machine's."""
        record = self._find(reference)
        if record is None:
            raise LackingError(f"the process engine has no image {reference}; build it: cpr build")
        for kind, inside in ((_ENVIRONMENT, "opt/cpr"), (_KIT, "opt/kit")):
            root = self._store.path((kind, record["entries"][kind]))
            for path in sorted(root.rglob("*")):
                name = f"{inside}/{path.relative_to(root).as_posix()}"
                if wanted(name) and path.is_file() and not path.is_symlink():
                    yield name, path.read_bytes()

    def prune(self) -> list[Path]:
        """Remove environments, kits and code that no image refers to; what was removed."""
        return self._store.prune()

    @property
    def session(self) -> str:
        return reaper().session

    def remove_session(self, session: str) -> None:
        """Processes carry no label: nobody but their program's reaper can know them."""

    def host_address(self) -> str:
        return ports.HOST

    def listen_address(self) -> str:
        return ports.HOST

    def locate(self, mount: Mount) -> str:
        return str(mount.source.resolve())

    def listen_port(self, port: int, host_port: int | None) -> int:
        if host_port:
            return host_port
        return port if ports.is_free(port) else ports.free()

    def run(self, run: Run) -> ProcessContainer:
        record = self._find(run.image)
        if record is None:
            raise LackingError(f"the process engine has no image {run.image}; build it: cpr build")
        self._check(run)
        self._store.touch(record["name"])
        entries: dict[str, str] = record["entries"]
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._store.held(*entries.items()))
            except FileNotFoundError as exc:
                raise LackingError(f"the image {run.image} is no longer whole; build it again: cpr build") from exc
            folder = make_folder("cpr-process-")
            stack.callback(remove_folder, folder)
            # A copy of its own: what a model writes to its working directory ends with it, as in a container.
            shutil.copytree(self._store.path((_CODE, entries[_CODE])), folder / "app", symlinks=True)
            argv = [*(run.command or record["entrypoint"]), *run.args]
            container = ProcessContainer(argv, self._environment(run, record, entries), folder, run.port)
            container.closing(stack.pop_all())
            return container

    def _check(self, run: Run) -> None:
        if run.sealed:
            raise LackingError("a process cannot have a read-only root and a user of its own; start Docker")
        for mount in run.mounts:
            if not mount.source.exists():
                raise ContainerError(f"{mount.source} cannot be shown to the process: there is no such path")
        if run.host_port not in (None, run.port):
            raise ContainerError(
                f"a process cannot have port {run.port} mapped to {run.host_port}; ask listen_port for its port"
            )
        if not ports.is_free(run.port):
            raise ContainerError(
                f"port {run.port} on {ports.HOST} is in use; stop what listens there, or give another port, or none"
            )

    def _environment(self, run: Run, record: Mapping[str, Any], entries: Mapping[str, str]) -> dict[str, str]:
        host = {name: self._environ[name] for name in _HOST_VARIABLES if name in self._environ}
        env = {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **host, **record["env"], **run.env}
        scripts = self._store.path((_ENVIRONMENT, entries[_ENVIRONMENT])) / "bin"
        env["PATH"] = f"{scripts}{os.pathsep}{self._environ.get('PATH', os.defpath)}"
        paths = (env.get("PYTHONPATH"), str(self._store.path((_KIT, entries[_KIT]))))
        env["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        env["CPR_SERVE_HOST"] = ports.HOST
        if run.gpus and run.gpus.device_ids:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(run.gpus.device_ids)
        return env

    def _find(self, reference: str) -> dict[str, Any] | None:
        """By name, or by id."""
        record = self._store.read(_name(reference))
        if record is None and reference.startswith("sha256:"):
            return next((each for each in self._store.records() if each["id"] == reference), None)
        return record

    def _install(self, folder: Path, manifest: Manifest, output: Output) -> None:
        """A virtual environment with everything in it, under this machine's own pip configuration."""
        hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
        env = {name: value for name, value in self._environ.items() if name not in hidden}
        # Announced in the words of a container engine's builder, so that one parser knows the steps of both.
        output("Step 1/2 : python -m venv")
        step([sys.executable, "-m", "venv", str(folder)], output, env)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
        if manifest.lock and not manifest.lock_fits:
            output("requirements.lock is for another Python or platform than this machine's: it is not used here")
        for wanted in manifest.installs:
            output(f"Step 2/2 : pip install {' '.join(Path(word).name for word in wanted)}")
            step([*pip, "--disable-pip-version-check", *wanted], output, env)


class ProcessContainer:
    """A process of a ProcessEngine, at the head of a session of its own."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], folder: Path, port: int) -> None:
        self._argv = list(argv)
        self._env = dict(env)
        self._folder = folder
        self._port = port
        self._log = folder / "log"
        self._last_logs = ""
        self._removed = False
        self._removing = threading.Lock()
        self._closing = contextlib.ExitStack()
        self._start()

    def closing(self, stack: contextlib.ExitStack) -> None:
        """What ends with the container."""
        self._closing = stack

    @property
    def id(self) -> str:
        return str(self._process.pid)

    @property
    def host_port(self) -> int:
        return self._port

    def status(self) -> str:
        if self._removed:
            return "removed"
        return "running" if self.exit_code() is None else "exited"

    def exit_code(self) -> int | None:
        """As a container engine counts it: 128 and the signal's number, for one that a signal ended."""
        code = self._poll()
        return code if code is None or code >= 0 else 128 - code

    def logs(self) -> str:
        if not self._removed:
            self._last_logs = self._log.read_text("utf-8", "replace")
        return self._last_logs

    def follow(self) -> Iterator[str]:
        if self._removed:
            yield from self._last_logs.splitlines()
            return
        with self._log.open("rb") as log:
            pending = b""
            while True:
                ended = self._poll() is not None
                *lines, pending = (pending + log.read()).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in lines)
                if ended:
                    break
                time.sleep(0.05)
        if pending:
            yield pending.decode("utf-8", "replace")

    def exec(self, command: Sequence[str], timeout_s: float) -> int:
        """Run beside the process, with its environment and in its folder."""
        if self.status() != "running":
            raise ContainerError(f"{command[0]} cannot run: the process has ended", self.logs())
        try:
            beside = self._spawn(command, subprocess.DEVNULL)
        except (FileNotFoundError, PermissionError):
            return _COMMAND_NOT_FOUND
        with guarded(beside):
            try:
                return beside.wait(timeout_s)
            except subprocess.TimeoutExpired as exc:
                raise TimeoutError(f"{' '.join(command)} did not end within {timeout_s:g} s") from exc

    def out_of_memory(self) -> bool:
        """A kernel that ends a process for lack of memory tells nobody but its own log."""
        return False

    def kill(self) -> None:
        if self._poll() is None:
            _kill_group(self._process.pid)

    def restart(self) -> None:
        with self._removing:  # or it could start after its removal
            if self._removed:
                raise ContainerError("the process cannot start again: it was removed", self._last_logs)
            self._stop(10.0)
            self._start()

    def remove(self, grace_s: float = 10.0) -> None:
        with self._removing:
            if self._removed:
                return
            self._stop(grace_s)
            self.logs()
            self._removed = True
            self._closing.close()

    def _start(self) -> None:
        try:
            with self._log.open("ab") as log:
                self._process = self._spawn(self._argv, log.fileno())
        except OSError as exc:
            raise ContainerError(f"{self._argv[0]} could not be started: {exc.strerror}") from exc
        self._identity = process_identity(self._process.pid)
        reaper().register("process", self._identity)

    def _spawn(self, argv: Sequence[str], output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self._folder / "app",
            env=self._env,
            start_new_session=True,
        )

    def _stop(self, grace_s: float) -> None:
        """As a container engine does it: SIGTERM to the first process alone, at the end SIGKILL to all."""
        if self._poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
            _kill_group(self._process.pid)
            self._process.wait()
        reaper().unregister("process", self._identity)

    def _poll(self) -> int | None:
        """When the first process ends, all that it left running ends, as in a container."""
        known = self._process.returncode
        code = self._process.poll()
        if known is None and code is not None:
            _kill_group(self._process.pid)
        return code


def step(argv: list[str], output: Output, env: Mapping[str, str]) -> None:
    """One step of a build. Raises BuildError with its last lines."""
    tail: deque[str] = deque(maxlen=TAIL)

    def relay(line: str) -> None:
        tail.append(line)
        output(line)

    title = "pip install" if "pip" in argv else "python -m venv"
    if command.stream(argv, relay, env=env) == 0:
        return
    if any("ensurepip is not available" in line or "No module named ensurepip" in line for line in tail):
        raise LackingError("this Python cannot make virtual environments; run: apt-get install python3-venv")
    raise causes.explained(BuildError(title, tuple(tail)), engine="process")


def _record(name: str, manifest: Manifest, entries: Mapping[str, str]) -> dict[str, Any]:
    said = {"env": dict(manifest.env), "entrypoint": list(manifest.entrypoint), "ports": list(manifest.ports)}
    identity = digest([repr(sorted(said.items())).encode(), *(key.encode() for key in entries.values())])
    created = datetime.now(timezone.utc).isoformat()
    return {"name": name, "id": f"sha256:{identity}", **said, "entries": dict(entries), "created": created}


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


def _copy(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True)


def _name(tag: str) -> str:
    return tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"


def _platform() -> str:
    machine = platform.machine().lower()
    return f"{sys.platform}/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
