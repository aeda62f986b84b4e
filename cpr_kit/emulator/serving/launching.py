"""From a deployed model's placement to what the engine runs: its image, its environment, its port."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cpr_kit import contract
from cpr_kit.contract import ContainerSpec, Deployment, Launch
from cpr_kit.emulator import private
from cpr_kit.emulator.errors import failed_precondition
from cpr_kit.engine import platforms, ports
from cpr_kit.engine.protocol import Engine, Image, Run
from cpr_kit.engine.store import Store
from cpr_kit.errors import CprError, SpecError
from cpr_kit.harness import probes

_VERTEX_PLATFORM = "linux/amd64"

# Where an engine cannot map ports, two servers that are about to listen must not be told the same one, also by two
# emulators: the open file that each is locked by. The system unlocks those of an emulator that was killed.
_taken: dict[tuple[str, int], int] = {}
_taking = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A model as it is deployed: how many replicas, of how many the operation waits for, and for how long.

    `extra_env` reaches the container as this machine's own, under the specification's and the platform's.
    The replicas' logs go to the folder `logs`, as `<endpoint>-<deployed model>-<number from 0>.log`.
    """

    spec: ContainerSpec
    deployment: Deployment
    display_name: str
    replicas: int
    required: int
    timeout_s: float
    logs: Path
    extra_env: Mapping[str, str] = field(default_factory=dict)
    said: Callable[[int, str], None] = lambda _, __: None
    """Gets each line of each replica, by its number, from any thread."""

    def log(self, number: int) -> Path:
        """Named for the endpoint too: a deployed model's id is unique within it alone."""
        names = filter(None, (self.deployment.endpoint_id, self.deployment.deployed_model_id))
        return self.logs / f"{'-'.join(names)}-{number}.log"


def find_image(
    spec: ContainerSpec, engine: Engine, resolve: Callable[[str], str], report: Callable[[str], None]
) -> Image:
    """The image that the engine has under the resolved reference, pulled if need be."""
    try:
        reference = resolve(spec.image_uri)
        image = engine.image(reference) or _pulled(engine, reference)
    except CprError as error:
        raise failed_precondition(f"The image {spec.image_uri} cannot be had: {error}") from error
    if image is None:
        raise failed_precondition(
            f"The image {spec.image_uri} is not there: the {engine.name} engine has no {reference}."
            f" Build it: {build_command(reference, engine)}"
        )
    if image.platform.startswith("linux/") and not platforms.matches(image.platform, _VERTEX_PLATFORM):
        report(f"{spec.image_uri} is for {image.platform}; Vertex AI would need one for {_VERTEX_PLATFORM}")
    return image


def plan(placement: Placement, image: Image, port: int) -> tuple[Run, Launch]:
    """`port` is the one that `take_port` gave for this replica."""
    launch = contract.launch(placement.spec, placement.deployment, port=port)
    # The log is read on this machine, so its lines are plain ones, unless the image says otherwise.
    plain = {} if image.env.get(contract.LOG_FORMAT) else {contract.LOG_FORMAT: "text"}
    run = Run(
        image=image.id,  # not by its name: all replicas are of one image, whatever that name comes to mean
        port=launch.port,
        env={**plain, **placement.extra_env, **launch.env},
        command=launch.command,
        args=launch.args,
        shared_memory_size_mb=placement.spec.shared_memory_size_mb,
    )
    return run, launch


def check(spec: ContainerSpec) -> None:
    try:
        probes.check_ports(spec)
    except SpecError as error:
        raise failed_precondition(str(error)) from error


def take_port(engine: Engine, wanted: int) -> int:
    """The port that a replica listens on; its own until `give_port`, where the engine cannot map ports."""
    other = ports.free()
    if engine.listen_port(wanted, other) != other:
        return wanted
    folder = Store.default().root / "ports"
    with _taking:
        port = wanted
        try:
            private.folder(folder)
            while (lock := _locked(folder / str(port))) is None or not _is_free(port, lock):
                port = ports.free()
        except OSError as error:
            raise failed_precondition(
                f"The container's port cannot be reserved in {folder} ({error.strerror}); set CPR_CACHE to a folder "
                "that you can write to"
            ) from error
        _taken[engine.name, port] = lock
        return port


def give_port(engine: Engine, port: int) -> None:
    with _taking:
        lock = _taken.pop((engine.name, port), None)
        if lock is not None:
            os.close(lock)


def build_command(reference: str, engine: Engine) -> str:
    """What makes an image that `engine` finds."""
    command = f"cpr build DIR -t {reference}"
    return command if engine.name == "docker" else f"{command} --engine {engine.name}"


def _locked(path: Path) -> int | None:
    """The open file; None where somebody else has it. It stays there: one that is removed could be locked twice."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except BaseException:
        os.close(file)
        raise
    return file


def _is_free(port: int, lock: int) -> bool:
    if ports.is_free(port):
        return True
    os.close(lock)
    return False


def _pulled(engine: Engine, reference: str) -> Image | None:
    pull = getattr(engine, "pull", None)  # an engine without registries has none
    if pull is None:
        return None
    pull(reference, lambda _: None)
    return engine.image(reference)
