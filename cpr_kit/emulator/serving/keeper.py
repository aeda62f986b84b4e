"""Keeps one replica: starts its container, watches it, starts it again when it has ended, and ends it."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cpr_kit.emulator.errors import ApiError, failed_precondition
from cpr_kit.emulator.serving import failures, launching
from cpr_kit.emulator.serving.launching import Placement
from cpr_kit.emulator.serving.logs import LogFile
from cpr_kit.emulator.serving.replica import Replica
from cpr_kit.emulator.serving.watch import watch
from cpr_kit.engine.protocol import Container, Engine, Image
from cpr_kit.errors import ContainerError, CprError
from cpr_kit.harness import probes

_POLL_S = 0.05
_GRACE_S = 10.0
"""Between a container's SIGTERM and its SIGKILL."""
_GRACE_BEFORE_SERVING_S = 1.0
"""One that never served has nothing to finish, and often no handler of signals yet."""
_STEADY_S = 60.0
_MAX_PAUSE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What the replicas that are started together share.

    `changed` is called at each change of what a deployment waits for. `settled`: the deployment has succeeded, from
    now on a replica that ends is started again.
    """

    changed: Callable[[], None]
    report: Callable[[str], None]
    settled: threading.Event


class Keeper:
    """A thread for each replica. `failure` says why the container did not become ready at its first start."""

    def __init__(self, number: int, placement: Placement, image: Image, engine: Engine, signals: Signals) -> None:
        self._placement = placement
        self._engine = engine
        self._signals = signals
        self._stopping = threading.Event()
        self._port = launching.take_port(engine, placement.spec.port)
        self._run, self._launch = launching.plan(placement, image, self._port)
        self._wake = threading.Event()
        self._log = LogFile(
            placement.log(number),
            ended=self._wake.set,
            report=self._report,
            said=functools.partial(placement.said, number),
        )
        self._container: Container | None = None
        self.failure: ApiError | None = None
        self.replica = Replica(
            number=number,
            predict_route=self._launch.predict_route,
            health_route=self._launch.health_route,
            suspected=self._wake.set,
        )
        self._has_served = False
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._live, name=f"cpr-replica-{number}", daemon=True)

    def start(self, deadline: float) -> None:
        self._deadline = deadline
        self._thread.start()

    def dismiss(self) -> None:
        """No container is wanted here any more; `end` follows."""
        self._stopping.set()
        self._wake.set()

    def kill(self) -> None:
        """The container ends as in a crash; it is started again as after one."""
        if self._container:
            self._container.kill()

    def end(self) -> None:
        """After `dismiss`: SIGTERM, a grace, SIGKILL; the container and the thread are gone then."""
        self._signals.settled.set()
        grace_s = _GRACE_S if self._has_served else _GRACE_BEFORE_SERVING_S
        if self._container:
            self._remove(self._container, grace_s)
        self._wake.set()
        self._thread.join()
        # The thread may have been about to start one.
        if self._container:
            self._remove(self._container, grace_s)
        self._log.close()
        launching.give_port(self._engine, self._port)

    def _live(self) -> None:
        pauses = _pauses()
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                if self._becomes_ready() or self._may_yet():
                    self._watched()
            except (CprError, OSError) as error:
                self._lost(error)
            self.replica.found(ready=False)
            self._signals.changed()
            if time.monotonic() - began > _STEADY_S:
                pauses = _pauses()
            self._stopping.wait(next(pauses))
            self._deadline = time.monotonic() + self._placement.timeout_s

    def _becomes_ready(self) -> bool:
        container = None
        try:
            container = self._started()
            if self._stopping.is_set():
                return False
            remaining_s = max(self._deadline - time.monotonic(), 0.0)
            probes.wait_until_ready(
                container, self._placement.spec, self._launch, timeout_s=round(remaining_s, 1), interval_s=_POLL_S
            )
        except (CprError, OSError) as error:
            if not self._stopping.is_set():
                self._not_ready(container, error)
            return False
        self.replica.clear(self.replica.suspicions)
        self.replica.found(ready=True)
        self._has_served = True
        self._report("ready")
        self._signals.changed()
        return True

    def _not_ready(self, container: Container | None, error: Exception) -> None:
        if container is None:
            self._log.note(str(error).partition("\n")[0] if isinstance(error, ContainerError) else str(error))
        names = {self._run.image: self._placement.spec.image_uri}
        self.failure = failures.explain(container, error, self._log.path, names=names)
        self._report(f"not ready: {str(error).partition(chr(10))[0]}")
        self._signals.changed()
        # A deployment that fails for it ends here, with nothing done to the container or its log.
        self._signals.settled.wait()

    def _may_yet(self) -> bool:
        """A container that is late is asked on; one whose startup probe failed is started again, as by Kubernetes."""
        late = self._container is not None and self._container.status() == "running"
        return late and self._placement.spec.startup_probe is None

    def _started(self) -> Container:
        container = self._container
        if container is not None and _restarted(container):
            self._log.again()
            return container
        if container is not None:
            container.remove(0)  # somebody else did; so that it is off the reaper's list too
        started = self._container = self._engine.run(self._run)
        self._log.follow(started)
        self.replica.base_url = f"http://{probes.HOST}:{started.host_port}"
        return started

    def _watched(self) -> None:
        assert self._container is not None
        watch(
            self.replica,
            self._container,
            self._placement.spec,
            self._launch,
            wake=self._wake,
            stopping=self._stopping,
            report=self._report,
        )

    def _lost(self, error: Exception) -> None:
        """The engine, most likely: nothing can be learnt of the container."""
        if not self._stopping.is_set():
            self.failure = failed_precondition(f"The container cannot be reached: {error}")
            self._report(f"cannot be watched: {error}")

    def _remove(self, container: Container, grace_s: float) -> None:
        try:
            container.remove(grace_s)
        except (CprError, OSError) as error:
            self._report(f"its container {container.id[:12]} may be left: {error}")

    def _report(self, line: str) -> None:
        self._signals.report(f"{self._placement.display_name} replica {self.replica.number}: {line}")


def _restarted(container: Container) -> bool:
    """False when there is nothing left to start again."""
    try:
        container.restart()
    except ContainerError:
        if container.status() != "removed":
            raise
        return False
    return True


def _pauses() -> Iterator[float]:
    """Before each new start: none at first, then as Kubernetes backs off, but for people who wait at a terminal."""
    yield 0.0
    pause = 1.0
    while True:
        yield pause
        pause = min(pause * 2, _MAX_PAUSE_S)
