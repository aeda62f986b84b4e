"""What Vertex AI does with a running container: traffic while it is healthy, a restart when it is dead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cpr_kit.contract import PROBE_ATTEMPTS, PROBE_PERIOD_S, ContainerSpec, Launch, Probe
from cpr_kit.engine.protocol import Container
from cpr_kit.errors import CprError
from cpr_kit.harness import probes

if TYPE_CHECKING:
    from typing_extensions import Self

# An engine's port forwarder accepts for a container in which nobody listens, then hangs up: the wait for that.
_HANG_UP_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether a container gets traffic. A pure value: `after` gives the next one.

    >>> health = Health()
    >>> for good in (False, False, False, False):
    ...     health = health.after(good=good)
    >>> health.serving, health.after(good=True).serving
    (False, True)
    """

    serving: bool = True
    streak: int = 0
    misses_allowed: int = PROBE_ATTEMPTS
    answers_needed: int = 1

    def after(self, *, good: bool) -> Health:
        """`streak` counts the answers in a row that speak against the present state."""
        if good == self.serving:
            return replace(self, streak=0)
        limit = self.answers_needed if good else self.misses_allowed
        if self.streak + 1 >= limit:
            return replace(self, serving=good, streak=0)
        return replace(self, streak=self.streak + 1)


class HealthMonitor:
    """Watches a container in a thread, at the contract's cadence unless `period_s` says otherwise.

    `report` gets one line per change, from that thread. A context manager; leave it before the
    container is removed.
    """

    def __init__(
        self,
        container: Container,
        spec: ContainerSpec,
        launch: Launch,
        *,
        report: Callable[[str], None],
        period_s: float | None = None,
    ) -> None:
        self.health = _initial(spec.health_probe)
        self.liveness = _initial(spec.liveness_probe)
        self.restarts = 0
        self._container = container
        self._health_question = probes.health(container, spec, launch)
        self._liveness_question = probes.liveness(container, hang_up_s=_HANG_UP_S, probe=spec.liveness_probe)
        self._report = report
        self._period_s = period_s or (spec.health_probe.period_s if spec.health_probe else PROBE_PERIOD_S)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cpr-health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def look(self) -> None:
        """One round: liveness, a restart if need be, health."""
        alive = self._liveness_question.once()
        self.liveness = self.liveness.after(good=alive.good)
        if not self.liveness.serving and not self._stopped.is_set():
            self._restart(alive.seen)
        answer = self._health_question.once()
        before, self.health = self.health, self.health.after(good=answer.good)
        if before.serving != self.health.serving:
            verdict = "healthy again: it gets traffic" if answer.good else "unhealthy: it gets no traffic"
            self._report(f"the container is {verdict} ({self._health_question.name}: {answer.seen})")

    def _watch(self) -> None:
        try:
            while not self._stopped.wait(self._period_s):
                self.look()
        except CprError as error:
            self._report(f"the container is no longer watched: {error}")

    def _restart(self, seen: str) -> None:
        misses = self.liveness.misses_allowed
        self._report(f"the container is restarted ({self._liveness_question.name}: {misses} times {seen})")
        self._container.restart()
        self.restarts += 1
        self.liveness = Health(misses_allowed=misses)


def _initial(probe: Probe | None) -> Health:
    if probe is None:
        return Health()
    return Health(misses_allowed=probe.failure_threshold, answers_needed=probe.success_threshold)
