"""What Vertex AI asks of a running container: traffic while it is healthy, a new start when it is dead.

The rules are those of contract.md 1.4 ("Custom container requirements for inference", API message Probe).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cpr_kit.contract import ContainerSpec, Launch, Probe
from cpr_kit.emulator.serving.replica import Replica
from cpr_kit.engine.protocol import Container
from cpr_kit.harness import probes
from cpr_kit.harness.monitor import Health
from cpr_kit.harness.probes import Answer, Question

# An engine's port forwarder accepts for a container in which nobody listens, then hangs up: the wait for that.
_HANG_UP_S = 0.05
# How often a replica is asked whose connection failed; on top of the platform's own questions, for a quick return.
_SUSPECT_PERIOD_S = 0.25


@dataclass
class _Check:
    """One of the platform's questions, its answers so far, and when it is asked next."""

    question: Question
    health: Health
    due: float = field(init=False)

    def __post_init__(self) -> None:
        self.due = time.monotonic() + self.question.period_s

    def ask(self) -> Answer:
        self.due = time.monotonic() + self.question.period_s
        answer = self.question.once()
        self.health = self.health.after(good=answer.good)
        return answer


def watch(
    replica: Replica,
    container: Container,
    spec: ContainerSpec,
    launch: Launch,
    *,
    wake: threading.Event,
    stopping: threading.Event,
    report: Callable[[str], None],
) -> None:
    """Returns when the container has ended or is dead, or is no longer wanted. `wake` makes it look at once."""
    alive = _liveness(container, spec)
    well = _health(container, spec, launch, serving=replica.serving)
    while True:
        due = min(alive.due, well.due) - time.monotonic()
        wake.wait(max(min(due, _SUSPECT_PERIOD_S) if replica.suspected else due, 0.0))
        wake.clear()
        if stopping.is_set():
            return
        if container.status() != "running":
            report(f"its container ended with exit code {container.exit_code()}")
            return
        if alive.due <= time.monotonic():
            answer = alive.ask()
            if not alive.health.serving:
                report(f"restarted ({alive.question.name}: {answer.seen})")
                return
        if well.due <= time.monotonic():
            _look(replica, well, report)
        elif replica.suspected:
            _look_again(replica, well)


def _look(replica: Replica, well: _Check, report: Callable[[str], None]) -> None:
    suspicions, before = replica.suspicions, well.health.serving
    answer = well.ask()
    if answer.good:
        replica.clear(suspicions)
    if well.health.serving != before:
        verdict = "healthy: it gets traffic" if answer.good else "unhealthy: it gets no traffic"
        report(f"{verdict} ({well.question.name}: {answer.seen})")
    replica.found(ready=well.health.serving)


def _look_again(replica: Replica, well: _Check) -> None:
    """Between the platform's questions: a miss counts for nothing, a good answer ends the suspicion."""
    suspicions = replica.suspicions
    if well.question.once().good:
        replica.clear(suspicions)


def _health(container: Container, spec: ContainerSpec, launch: Launch, *, serving: bool) -> _Check:
    probe = spec.health_probe
    health = _thresholds(probe) if probe else Health()
    return _Check(probes.health(container, spec, launch), replace(health, serving=serving))


def _liveness(container: Container, spec: ContainerSpec) -> _Check:
    probe = spec.liveness_probe
    health = _thresholds(probe) if probe else Health()
    return _Check(probes.liveness(container, hang_up_s=_HANG_UP_S, probe=probe), health)


def _thresholds(probe: Probe) -> Health:
    return Health(misses_allowed=probe.failure_threshold, answers_needed=probe.success_threshold)
