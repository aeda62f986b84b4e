"""The engine that drives a Docker Engine."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cpr_kit.engine import archive, builder, leftovers, platforms, ports, registry
from cpr_kit.engine.classic import Connection
from cpr_kit.engine.container import DockerContainer
from cpr_kit.engine.protocol import LABEL, Build, Gpus, Image, Mount, Output, Run
from cpr_kit.engine.reaper import reaper
from cpr_kit.engine.store import Store
from cpr_kit.errors import BuildError, ContainerError, EngineUnavailable, LackingError, MissingExtra

_PING_TIMEOUT_S = 4
_REQUEST_TIMEOUT_S = 120
_PORT_ATTEMPTS = 5
_PORT_TAKEN = re.compile(r"port is already allocated|address already in use", re.IGNORECASE)
_NO_GPU = re.compile(r"could not select device driver|nvidia-container|unresolvable CDI", re.IGNORECASE)
_NOT_FOUND = 404
_DESKTOP_HOST = "host.docker.internal"
_SEALED = {"user": "65534:65534", "read_only": True, "tmpfs": {"/tmp": "mode=1777"}}  # noqa: S108


class DockerEngine:
    """Connects at once; raises EngineUnavailable when no engine answers. `builder` forces buildkit or classic."""

    name = "docker"

    def __init__(self, environ: Mapping[str, str] = os.environ, *, builder: str | None = None) -> None:
        self._environ = environ
        self._builder = builder
        self._client, self._about = _connect(environ)

    @property
    def version(self) -> str:
        return str(self._about["Version"])

    def build(self, build: Build, output: Output) -> Image:
        chosen = builder.find(self._builder, self._environ)
        # A builder chosen with buildx may have machines of its own for other platforms.
        if build.platform and "buildx" not in chosen.command:
            platforms.check(build.platform, self._about, kernel=os.uname().release)
        with contextlib.closing(_client(self._environ)) as client:
            notes = Store.default(self._environ).root / leftovers.FOLDER
            connection = Connection(api=client.api, answers=lambda: _answers(self._environ), notes=notes)
            builder.build(chosen, connection, build, output, self._environ)
        image = self.image(build.tag)
        if image is None:
            raise BuildError("the end of the build", (f"it succeeded, but the engine has no image {build.tag}",))
        if build.platform and not platforms.matches(image.platform, build.platform):
            self.remove_image(build.tag)
            raise BuildError(
                f"the platform {build.platform}",
                cause=f"the image that came of it is for {image.platform}",
                remedy=f"choose a base for {build.platform} ([image] base), or build for this: {image.platform}",
            )
        return image

    def files(self, reference: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        import docker

        session = reaper().session
        reaper().register("container", session)
        try:
            # Made and never started; an image without a command needs to be given one.
            made = self._client.containers.create(reference, ["-"], labels={LABEL: session})
            try:
                yield from archive.files(made.export(), wanted)
            finally:
                made.remove(force=True, v=True)
        except docker.errors.ImageNotFound as exc:
            raise LackingError(f"there is no image {reference} here; build it (cpr build), or pull it") from exc
        except docker.errors.APIError as exc:
            raise ContainerError(f"the files of {reference} cannot be read: {exc.explanation or exc}") from exc
        finally:
            reaper().unregister("container", session)

    def image(self, reference: str) -> Image | None:
        import docker

        try:
            attrs = self._client.images.get(registry.here(reference)).attrs
        except docker.errors.ImageNotFound:
            return None
        except docker.errors.APIError as exc:
            raise ContainerError(f"{reference}: {exc.explanation or exc}") from exc
        except OSError as exc:
            raise EngineUnavailable(f"the Docker Engine no longer answers ({exc}); start it again") from exc
        return _image(reference, attrs)

    def remove_image(self, reference: str) -> None:
        import docker

        try:
            if reference.startswith("sha256:") and self._client.images.get(reference).tags:
                return  # by its id goes only what nobody has named
            self._client.images.remove(reference)
        except docker.errors.ImageNotFound:
            return
        except docker.errors.APIError as exc:
            raise ContainerError(f"the image {reference} cannot be removed: {exc.explanation or exc}") from exc

    def import_archive(self, chunks: Iterable[bytes], reference: str, changes: Sequence[str]) -> Image:
        """Make an image out of a root file system's tar archive."""
        import docker
        import docker.utils

        repository, tag = docker.utils.parse_repository_tag(reference)
        try:
            self._client.api.import_image_from_data(
                iter(chunks), repository=repository, tag=tag or "latest", changes=list(changes)
            )
        except docker.errors.APIError as exc:
            raise BuildError(f"import of {reference}", (str(exc.explanation or exc),)) from exc
        image = self.image(reference)
        if image is None:
            raise BuildError(f"import of {reference}", ("the engine took the archive, but has no such image",))
        return image

    def push(self, reference: str, output: Output, *, auth: Mapping[str, str] | None = None) -> str:
        """The image's digest in the registry. `auth` goes before what `docker login` left."""
        return registry.push(self._client.api, reference, output, auth=auth)

    def pull(self, reference: str, output: Output) -> None:
        registry.pull(self._client.api, reference, output)

    def tag(self, source: str, target: str) -> None:
        registry.tag(self._client.api, source, target)

    @property
    def session(self) -> str:
        return reaper().session

    def remove_session(self, session: str) -> None:
        import docker

        try:
            for container in self._client.containers.list(
                all=True, filters={"label": f"{LABEL}={session}"}, ignore_removed=True
            ):
                # Gone, or going: its program's reaper may be at the same work.
                with contextlib.suppress(docker.errors.APIError):
                    container.remove(force=True, v=True)
        except (docker.errors.DockerException, OSError) as exc:
            raise EngineUnavailable(f"the Docker Engine no longer answers ({exc}); start it again") from exc

    def host_address(self) -> str:
        return _DESKTOP_HOST if self._is_desktop() else self._gateway()

    def listen_address(self) -> str:
        """Docker Desktop hands what is sent to its host's name to this machine's own 127.0.0.1."""
        if self._is_desktop():
            return ports.HOST
        gateway = self._gateway()
        if not _is_own(gateway):
            raise LackingError(
                f"the engine's bridge {gateway} is no address of this machine (an engine elsewhere, or a rootless one):"
                " its containers cannot reach what listens here; use an engine of this machine, or CPR_ENGINE=process"
            )
        return gateway

    def _is_desktop(self) -> bool:
        return "Docker Desktop" in str(self._client.info().get("OperatingSystem"))

    def _gateway(self) -> str:
        """Of the network that a container is in when nobody names one."""
        import docker

        try:
            pools = self._client.networks.get("bridge").attrs["IPAM"]["Config"] or ()
        except docker.errors.NotFound:
            pools = ()
        for pool in pools:
            if gateway := pool.get("Gateway"):
                return str(gateway)
        raise LackingError("the Docker Engine has no default bridge network; start it without --bridge=none")

    def locate(self, mount: Mount) -> str:
        return mount.target

    def listen_port(self, port: int, host_port: int | None) -> int:  # noqa: ARG002 - ports are mapped here
        return port

    def run(self, run: Run) -> DockerContainer:
        for mount in run.mounts:
            if not mount.source.exists():
                raise ContainerError(f"{mount.source} cannot be mounted at {mount.target}: there is no such path")
        for _ in range(1 if run.host_port else _PORT_ATTEMPTS):
            # Chosen here and not by the engine, which would choose another one at each restart.
            port = run.host_port or ports.free()
            container = self._start(run, port)
            if container:
                return container
        raise ContainerError(
            f"port {port} on {ports.HOST} is in use; stop what listens there, or give another port, or none"
        )

    def _start(self, run: Run, port: int) -> DockerContainer | None:
        """None when the port is taken."""
        import docker

        session = reaper().session
        reaper().register("container", session)
        created = None
        try:
            created = self._client.containers.create(**_options(run, port, session))
            created.start()
        except BaseException as exc:
            if created is not None:
                created.remove(force=True, v=True)
            # Without an answer the engine may have made one all the same: then the reaper looks for it at the end.
            if created is not None or isinstance(exc, docker.errors.APIError):
                reaper().unregister("container", session)
            if not isinstance(exc, docker.errors.APIError):
                raise
            if _PORT_TAKEN.search(str(exc)):
                return None
            raise _refusal(run, exc) from exc
        return DockerContainer(created, port, session)


def _is_own(address: str) -> bool:
    """Whether something on this machine can listen there."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


def _client(environ: Mapping[str, str]) -> Any:
    import docker

    return docker.from_env(timeout=_REQUEST_TIMEOUT_S, environment=dict(environ))


def _answers(environ: Mapping[str, str]) -> bool:
    try:
        client, _ = _connect(environ)
    except LackingError:
        return False
    client.close()
    return True


def _connect(environ: Mapping[str, str]) -> tuple[Any, Mapping[str, Any]]:
    """A client and what the engine says of itself. A first, impatient client asks whether an engine answers at all."""
    try:
        import docker
        from docker.constants import DEFAULT_DOCKER_API_VERSION
    except ImportError as exc:
        raise MissingExtra("docker", "docker") from exc
    host = environ.get("DOCKER_HOST") or ""
    try:
        host = host or getattr(docker.ContextAPI.get_current_context(), "Host", None) or ""
        _knock(host)
        first = docker.from_env(version=DEFAULT_DOCKER_API_VERSION, timeout=_PING_TIMEOUT_S, environment=dict(environ))
        with contextlib.closing(first):
            about: Mapping[str, Any] = first.api.version(api_version=False)
        return _client(environ), about
    except (docker.errors.DockerException, OSError, ValueError) as exc:
        where = host or "its default socket"
        raise EngineUnavailable(
            f"no Docker Engine answers at {where} ({exc}); start Docker, set DOCKER_HOST, or use CPR_ENGINE=process"
        ) from exc


def _knock(host: str) -> None:
    """Raises OSError when nobody answers at a Unix socket: docker-py says so too, but leaves its own socket open."""
    match = re.match(r"(?:http\+)?unix:/*(/.*)", host)
    if match:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PING_TIMEOUT_S)
            probe.connect(match[1])
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            if not probe.recv(1):
                raise ConnectionResetError("it ended the connection")


def _options(run: Run, port: int, session: str) -> dict[str, Any]:
    """What docker-py gets. A command without arguments drops the image's CMD: the engine does that by itself."""
    import docker

    return {
        "image": run.image,
        "entrypoint": list(run.command) or None,
        "command": list(run.args) or None,
        "environment": dict(run.env),
        "ports": {f"{run.port}/tcp": (ports.HOST, port)},
        "mounts": [
            docker.types.Mount(mount.target, str(mount.source.resolve()), type="bind", read_only=True)
            for mount in run.mounts
        ],
        "labels": {LABEL: session},
        "shm_size": f"{run.shared_memory_size_mb}m" if run.shared_memory_size_mb else None,
        "device_requests": [_device_request(run.gpus)] if run.gpus else None,
        **(_SEALED if run.sealed else {}),
    }


def _device_request(gpus: Gpus) -> Any:
    import docker

    return docker.types.DeviceRequest(
        count=0 if gpus.device_ids else -1 if gpus.count is None else gpus.count,
        device_ids=list(gpus.device_ids),
        capabilities=[list(group) for group in gpus.capabilities],
    )


def _refusal(run: Run, exc: Any) -> Exception:
    """Why the engine did not start a container, and what to do."""
    text = str(exc.explanation or exc)
    if exc.status_code == _NOT_FOUND and "No such image" in text:
        return LackingError(f"there is no image {run.image} here; build it (cpr build), or: docker pull {run.image}")
    if run.gpus and _NO_GPU.search(text):
        return LackingError(f"this engine has no GPUs to give ({text}); install the NVIDIA Container Toolkit")
    return ContainerError(f"{run.image} could not be started: {text}")


def _image(reference: str, attrs: Mapping[str, Any]) -> Image:
    config = attrs.get("Config") or {}
    parts = (attrs.get("Os"), attrs.get("Architecture"), attrs.get("Variant"))
    return Image(
        reference=reference,
        id=attrs["Id"],
        env=dict(entry.partition("=")[::2] for entry in config.get("Env") or ()),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        ports=tuple(int(port.partition("/")[0]) for port in config.get("ExposedPorts") or ()),
        platform="/".join(part for part in parts if part),
        size=int(attrs.get("Size") or 0),
        labels=dict(config.get("Labels") or {}),
        created=str(attrs.get("Created") or ""),
    )
