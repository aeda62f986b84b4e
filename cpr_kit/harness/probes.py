"""How Vertex AI asks a container whether it lives and whether it may have traffic, and the wait for both.

The functions that return an `Answer` ask once; a `Question` says how often. See `contract.Probe`.
"""

from __future__ import annotations

import functools
import http.client
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from cpr_kit.contract import (
    HEALTH_TIMEOUT_S,
    PROBE_PERIOD_S,
    ContainerSpec,
    Launch,
    Probe,
)
from cpr_kit.engine.protocol import Container
from cpr_kit.errors import ContainerError, SpecError

HOST = "127.0.0.1"
LIVENESS_TIMEOUT_S = 1.0
_HTTP_OK = 200
# The last question before the deadline gets at least this long, or its time-out would hide what was seen before.
_LAST_ANSWER_S = 1.0
# How often a container that is waited for is looked at, so that its end is noticed at once.
_STATUS_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Answer:
    """What one question brought: good or not, and the words for it."""

    good: bool
    seen: str


Ask = Callable[[float], Answer]
"""Asks once, within that many seconds."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One check of a container: how to ask, how often, and how many misses in a row end the wait."""

    name: str
    ask: Ask
    timeout_s: float
    period_s: float
    delay_s: float = 0.0
    answers_needed: int = 1
    fatal_misses: int | None = None

    def once(self) -> Answer:
        return self.ask(self.timeout_s)


def connect(port: int, timeout_s: float, hang_up_s: float = 0.0) -> Answer:
    """Liveness: does a TCP connection open, and stay open for `hang_up_s`?"""
    try:
        with socket.create_connection((HOST, port), timeout_s) as connection:
            if hang_up_s:
                connection.settimeout(hang_up_s)
                if not connection.recv(1):
                    return Answer(good=False, seen="accepted and closed at once, nothing listens behind it")
    except TimeoutError:
        return Answer(good=True, seen="connected") if hang_up_s else _late(timeout_s)
    except OSError as error:
        return Answer(good=False, seen=_words(error))
    return Answer(good=True, seen="connected")


def get(port: int, path: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> Answer:
    """Health: exactly 200 within `timeout_s`; the body is not looked at."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    started = time.monotonic()
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        status = connection.getresponse().status
    except TimeoutError:
        return _late(timeout_s)
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return Answer(good=False, seen="the connection was closed without an answer; does it listen on 0.0.0.0?")
    except (OSError, http.client.HTTPException) as error:
        return Answer(good=False, seen=_words(error))
    finally:
        connection.close()
    if time.monotonic() - started > timeout_s:
        return _late(timeout_s)
    return Answer(good=status == _HTTP_OK, seen=f"status {status}")


def execute(container: Container, command: Iterable[str], timeout_s: float) -> Answer:
    """An exec probe: exit code 0 is good."""
    try:
        code = container.exec(tuple(command), timeout_s)
    except TimeoutError:
        return _late(timeout_s)
    except ContainerError as error:
        return Answer(good=False, seen=str(error).partition("\n")[0])
    return Answer(good=code == 0, seen=f"exit code {code}")


def wait_until_ready(
    container: Container,
    spec: ContainerSpec,
    launch: Launch,
    *,
    timeout_s: float = 300.0,
    interval_s: float = 0.1,
) -> None:
    """Startup probe, liveness, health, in this order. Raises ContainerError with the container's log."""
    deadline = time.monotonic() + timeout_s
    for question in questions(container, spec, launch):
        # A startup probe has its own cadence; the others are asked more often than Vertex AI would, to start quickly.
        period_s = question.period_s if question.fatal_misses else interval_s
        _poll(container, replace(question, period_s=period_s), deadline, timeout_s)


def questions(container: Container, spec: ContainerSpec, launch: Launch) -> Iterator[Question]:
    """What is asked until a container may have traffic, in the platform's order."""
    if spec.startup_probe:
        named = _probe("startup probe", spec.startup_probe, container)
        yield replace(named, fatal_misses=spec.startup_probe.failure_threshold)
    yield liveness(container, probe=spec.liveness_probe)
    yield health(container, spec, launch)


def liveness(container: Container, hang_up_s: float = 0.0, *, probe: Probe | None = None) -> Question:
    """The specification's own liveness probe, else a TCP connection."""
    if probe is not None:
        return _probe("liveness probe", probe, container)
    port = container.host_port
    return Question(
        name=f"liveness check (TCP connection to port {port})",
        ask=lambda timeout_s: connect(port, timeout_s, hang_up_s),
        timeout_s=LIVENESS_TIMEOUT_S,
        period_s=PROBE_PERIOD_S,
    )


def health(container: Container, spec: ContainerSpec, launch: Launch) -> Question:
    """The specification's own health probe, else GET of the health route."""
    if spec.health_probe:
        return _probe("health probe", spec.health_probe, container)
    port = container.host_port
    return Question(
        name=f"health check (GET {launch.health_route} on port {port})",
        ask=lambda timeout_s: get(port, launch.health_route, timeout_s),
        timeout_s=HEALTH_TIMEOUT_S,
        period_s=PROBE_PERIOD_S,
    )


def check_ports(spec: ContainerSpec) -> None:
    """Refuse probes of a port that is not published here: only the first one is."""
    for name in ("startup_probe", "health_probe", "liveness_probe"):
        probe: Probe | None = getattr(spec, name)
        if probe and not probe.exec and probe.port not in (None, spec.port):
            raise SpecError(f"{name} asks port {probe.port}; only the first port, {spec.port}, is reachable here")


def _probe(kind: str, probe: Probe, container: Container) -> Question:
    port = container.host_port
    ask: Ask
    if probe.exec:
        what, ask = " ".join(probe.exec), functools.partial(execute, container, probe.exec)
    elif probe.http_path is not None:
        path = probe.http_path or "/"
        what, ask = f"GET {path} on port {port}", lambda timeout_s: get(port, path, timeout_s, probe.http_headers)
    else:
        what, ask = f"TCP connection to port {port}", lambda timeout_s: connect(port, timeout_s)
    return Question(
        name=f"{kind} ({what})",
        ask=ask,
        timeout_s=probe.timeout_s,
        period_s=probe.period_s,
        delay_s=probe.initial_delay_s,
        answers_needed=probe.success_threshold,
    )


def _poll(container: Container, question: Question, deadline: float, timeout_s: float) -> None:
    """Ask until the answers are good. The one place that waits for a container."""
    seen, misses, answers = "nothing yet", 0, 0
    next_time = time.monotonic() + question.delay_s
    while True:
        _wait(container, min(next_time, deadline), question.name)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise _failure(container, f"the {question.name} did not succeed within {timeout_s:g} s", seen)
        next_time = time.monotonic() + question.period_s
        answer = question.ask(min(question.timeout_s, max(remaining, _LAST_ANSWER_S)))
        _check_running(container, question.name)
        seen = answer.seen
        answers, misses = (answers + 1, 0) if answer.good else (0, misses + 1)
        if answers >= question.answers_needed:
            return
        if misses == question.fatal_misses:
            raise _failure(container, f"the {question.name} failed {misses} times in a row", seen)


def _wait(container: Container, until: float, name: str) -> None:
    while (remaining := until - time.monotonic()) > 0:
        time.sleep(min(remaining, _STATUS_INTERVAL_S))
        _check_running(container, name)


def _check_running(container: Container, name: str) -> None:
    if container.status() != "running":
        code = container.exit_code()
        what = f"the container ended with exit code {code} before its {name} succeeded"
        raise ContainerError(what, container.logs())


def _failure(container: Container, what: str, seen: str) -> ContainerError:
    return ContainerError(f"{what}; seen last: {seen}", container.logs())


def _late(timeout_s: float) -> Answer:
    return Answer(good=False, seen=f"no answer within {timeout_s:.3g} s")


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return str(error) or type(error).__name__
