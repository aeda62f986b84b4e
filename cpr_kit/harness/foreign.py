"""An image that others made, started once: is its program there, does its port answer, is it healthy in time.

`harness.checks` asks what a server answers; this says why one does not get so far.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cpr_kit.contract import PROBE_ATTEMPTS, PROBE_PERIOD_S, ContainerSpec
from cpr_kit.errors import ContainerError
from cpr_kit.harness import plan, probes
from cpr_kit.harness.checks import Check

if TYPE_CHECKING:
    from cpr_kit.engine.protocol import Container, Engine, Image

LIVENESS_S = PROBE_ATTEMPTS * PROBE_PERIOD_S
"""Vertex AI restarts a container whose port has not answered four times, 10 s apart."""
HEALTHY_S = 300.0
"""How long health is waited for here; a deployment's own limit is its deployment_timeout."""

_ASK_S = 0.1
_HANG_UP_S = 0.2
_LINES = 10
_PLACES = 3
_IMAGE = "Vertex AI starts the image by its ENTRYPOINT and CMD, or by command and args in their place"
_PORT = f"the first port accepts connections within {LIVENESS_S:g} s, or the container is restarted"
_HEALTH = "GET on the health route answers exactly 200 within 10 s"


def run(
    spec: ContainerSpec,
    engine: Engine,
    *,
    artifact_uri: str | None = None,
    liveness_s: float = LIVENESS_S,
    healthy_s: float = HEALTHY_S,
    **options: Any,
) -> list[Check]:
    """Command, port, health, in this order; after a breach nothing more is asked. `options` are `plan.Options`'.

    Raises LackingError for an image that this machine does not have, and ValueError for artifacts that are not there.
    """
    planned = plan.make(spec, plan.Options(artifact_uri=artifact_uri, **options), engine)
    image = engine.image(spec.image_uri)
    program = _program(spec, image)
    if image is not None and not program:
        return [_breach("command", _IMAGE, f"{spec.image_uri} has neither ENTRYPOINT nor CMD; give it a command")]
    try:
        container = engine.run(planned.run)
    except ContainerError as error:
        return [_breach("command", _IMAGE, f"{error}{_elsewhere(spec, engine, image, program)}")]
    try:
        return list(_asked(container, spec, planned, image, (liveness_s, healthy_s)))
    finally:
        container.remove()


def _asked(
    container: Container, spec: ContainerSpec, planned: plan.Plan, image: Image | None, limits: tuple[float, float]
) -> Iterator[Check]:
    seen = _until_good(container, probes.liveness(container, hang_up_s=_HANG_UP_S), limits[0])
    if isinstance(seen, str):
        # A program that ends before it listens is the command's fault, and not the port's.
        if container.status() != "running":
            yield _breach("command", _IMAGE, f"it ended with exit code {container.exit_code()}{_log(container)}")
            return
        yield _ok("command", _IMAGE, "it runs")
        yield _breach("port", _PORT, f"port {planned.launch.port}: {seen}{_other_ports(spec, image)}{_log(container)}")
        return
    yield _ok("command", _IMAGE, "it runs")
    yield _ok("port", _PORT, f"port {planned.launch.port} accepted after {seen:.1f} s")
    seen = _until_good(container, probes.health(container, spec, planned.launch), limits[1])
    if isinstance(seen, str):
        yield _breach("health", _HEALTH, f"GET {planned.launch.health_route}: {seen}{_log(container)}")
    else:
        yield _ok("health", _HEALTH, f"GET {planned.launch.health_route} answered 200 after {seen:.1f} s")


def _until_good(container: Container, question: probes.Question, limit_s: float) -> float | str:
    """Seconds until the answer was good, or the last answer."""
    started = time.monotonic()
    while True:
        answer = question.once()
        if answer.good and container.status() == "running":
            return time.monotonic() - started
        if container.status() != "running":
            return f"the container ended with exit code {container.exit_code()}"
        if time.monotonic() - started > limit_s:
            return f"{answer.seen}, for {limit_s:g} s"
        time.sleep(_ASK_S)


def _program(spec: ContainerSpec, image: Image | None) -> str:
    """What is started: `command` replaces the ENTRYPOINT, and the CMD with it; `args` the CMD alone."""
    own = image.entrypoint if image else ()
    cmd = () if spec.command else spec.args or (image.command if image else ())
    words = (*(spec.command or own), *cmd)
    return words[0] if words else ""


def _elsewhere(spec: ContainerSpec, engine: Engine, image: Image | None, program: str) -> str:
    """Where the image has a program of that name, and what it starts by itself."""
    if image is None:
        return ""
    name = program.rpartition("/")[2]
    found = [path for path, _ in engine.files(spec.image_uri, lambda path: path.rpartition("/")[2] == name)]
    own = " ".join((*image.entrypoint, *image.command))
    there = f"; the image has /{', /'.join(found[:_PLACES])}" if found else f'; the image has no file "{name}"'
    return there + (f"; by itself it starts: {own}" if own and spec.command else "")


def _other_ports(spec: ContainerSpec, image: Image | None) -> str:
    others = [port for port in (image.ports if image else ()) if port != spec.port]
    if not others:
        return ""
    return f"; the image EXPOSEs {', '.join(map(str, others))}: say which serves HTTP in ports"


def _log(container: Container) -> str:
    lines = container.logs().rstrip().splitlines()[-_LINES:]
    return "".join(f"\n      log: {line}" for line in lines) if lines else "; it wrote nothing"


def _ok(name: str, rule: str, detail: str) -> Check:
    return Check(name=name, rule=rule, severity="ok", detail=detail)


def _breach(name: str, rule: str, detail: str) -> Check:
    return Check(name=name, rule=rule, severity="breach", detail=detail)
