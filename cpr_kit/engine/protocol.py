"""What a container engine does for the kit: build an image, run a container. Two implementations follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Output = Callable[[str], None]
"""Takes one line of a build's output, without its newline."""

LABEL = "cpr-kit"
"""Everything the kit starts carries the label `cpr-kit=<session>`, so that leftovers can be found."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build: `context` holds a Dockerfile and an `image.json` (see cpr_kit.build.context)."""

    context: Path
    tag: str
    args: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None
    no_cache: bool = False


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that an engine has. `id` is its digest; `entrypoint`, `env` and `ports` are its defaults.

    `created` is when it was made, as RFC 3339 writes it; "" where the engine does not know.
    """

    reference: str
    id: str
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    platform: str = ""
    size: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A file or folder of this machine, shown to the container read-only at `target`."""

    source: Path
    target: str


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """`count` GPUs (-1: all), or those named by `device_ids`, with the driver capabilities asked for."""

    count: int | None = None
    device_ids: tuple[str, ...] = ()
    capabilities: tuple[tuple[str, ...], ...] = (("gpu",),)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One container: `command` replaces the image's ENTRYPOINT, `args` its CMD, as Vertex AI does it.

    `sealed` runs it as uid 65534 with a read-only root and a tmpfs at /tmp, whatever user the image names.
    """

    image: str
    port: int
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    host_port: int | None = None
    mounts: tuple[Mount, ...] = ()
    shared_memory_size_mb: int | None = None
    gpus: Gpus | None = None
    sealed: bool = False


class Container(Protocol):
    """A container that was started. Everything it wrote stays readable after `remove`."""

    @property
    def id(self) -> str: ...

    @property
    def host_port(self) -> int:
        """The port on 127.0.0.1 that reaches the container's first port."""

    def status(self) -> str:
        """`running`, `exited`, or `removed`."""

    def exit_code(self) -> int | None:
        """None while it runs."""

    def out_of_memory(self) -> bool:
        """Whether it ended for lack of memory, as far as the engine can tell."""

    def logs(self) -> str:
        """Standard output and error so far, in the order written where the engine can tell."""

    def follow(self) -> Iterator[str]:
        """Lines of the log as they are written, until the container ends."""

    def exec(self, command: Sequence[str], timeout_s: float) -> int:
        """Run a command inside, without a shell; its exit code. Raises TimeoutError after `timeout_s`."""

    def kill(self) -> None:
        """SIGKILL to all of it, as a crash would end it: it stays, exited. Nothing where it does not run."""

    def restart(self) -> None:
        """Stop and start again, on the same port: what Vertex AI does after four liveness misses."""

    def remove(self, grace_s: float = 10.0) -> None:
        """SIGTERM, wait at most `grace_s`, SIGKILL, remove. Safe to call twice."""


class Engine(Protocol):
    """The only thing that starts anything. Foreign errors come out as BuildError or ContainerError."""

    @property
    def name(self) -> str: ...

    def build(self, build: Build, output: Output) -> Image:
        """Make an image under `build.tag`. Raises BuildError with the step and its last lines."""

    def image(self, reference: str) -> Image | None:
        """The image if this engine has it. Never pulls."""

    def remove_image(self, reference: str) -> None: ...

    def files(self, reference: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        """The regular files of an image whose path, POSIX and from the root without a slash, is `wanted`.

        Nothing of the image is run. Raises LackingError when there is no such image.
        """

    @property
    def session(self) -> str:
        """The value of the label on all that this program starts; for a later program's `remove_session`."""

    def remove_session(self, session: str) -> None:
        """Remove the containers that a program left, which was killed together with its reaper."""

    def host_address(self) -> str:
        """The address or name under which code in a container reaches this machine."""

    def listen_address(self) -> str:
        """Where this machine must listen for that. Raises LackingError where its containers cannot reach it."""

    def locate(self, mount: Mount) -> str:
        """The path under which code in the container sees the mount."""

    def listen_port(self, port: int, host_port: int | None) -> int:
        """The port a server must listen on so that it is reached: `port`, or a host's where ports cannot be mapped."""

    def run(self, run: Run) -> Container:
        """Start a container, published on 127.0.0.1 only. It does not outlive this process, however that ends."""
