"""The image: where it is, whether Vertex AI can run it, and whether it does on this machine what it must do there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import orjson

from cpr_kit.contract import ContainerSpec, Deployment
from cpr_kit.deploy.registry import check as registry
from cpr_kit.deploy.registry.remote import Remote, located, remote
from cpr_kit.deploy.target import CheckRequest, Target
from cpr_kit.engine.protocol import Engine
from cpr_kit.errors import CprError
from cpr_kit.finding import Finding
from cpr_kit.harness import checks
from cpr_kit.harness.endpoint import LocalEndpoint
from cpr_kit.harness.target import Sample
from cpr_kit.harness.target import Target as Server

Look = Callable[[], Iterator[Finding]]
_NAME = "local run"


def looks(target: Target, engine: Engine | None, image: str | None = None) -> tuple[tuple[str, Look], ...]:
    """`image` is its name in this engine, where that is not the target's."""
    return (
        ("repository", partial(_repository, target)),
        ("image", partial(_image, target, engine, image or target.image)),
    )


def _repository(target: Target) -> Iterator[Finding]:
    """Region, existence, rights: as a push sees it, without sending anything."""
    registry.check(target.image, target.region)
    yield Finding("repository", True, f"{target.image.rpartition('/')[0]} may be pushed to")


def _image(target: Target, engine: Engine | None, name: str) -> Iterator[Finding]:
    here = located(engine, name) if engine is not None else None
    if here is not None:
        yield _platform(here, "is on this machine")
        return
    there = remote(target.image)
    if there is None:
        detail = f"{target.image} is neither on this machine nor in its registry"
        yield Finding("image", False, detail, f"cpr build DIR -t {target.image}")
        return
    yield _platform(there, "is in its registry")


def _platform(image: Remote, where: str) -> Finding:
    registry.platform(image)
    return Finding("image", True, f"{image.reference} {where}, {', '.join(image.platforms)}, {image.size / 1e6:.0f} MB")


def local_run(target: Target, engine: Engine, image: str | None = None) -> Iterator[Finding]:
    """Start the very image as Vertex AI would, and ask it all that Vertex AI and the [[check]] requests ask.

    `image` is its name in this engine, where that is not the target's.
    """
    name = image or target.image
    if engine.image(name) is None:
        yield Finding.noted(_NAME, f"{name} is not on this machine, so it was not started", f"docker pull {name}")
        return
    spec = dataclasses.replace(target.spec, image_uri=name)
    deployment = Deployment(machine_type=target.scale.machine_type)
    try:
        with LocalEndpoint(spec, engine, artifact_uri=target.artifacts, deployment=deployment) as endpoint:
            yield _answers(endpoint.launch.port, spec)
            found = checks.run(Server.of(endpoint), [_sample(each) for each in target.checks])
    except (CprError, ValueError) as error:
        yield Finding(_NAME, False, str(error), f"cpr run {name} shows its log; cpr check {name} asks it the same")
        return
    yield from _of_checks(found, len(target.checks), name)


def _answers(port: int, spec: ContainerSpec) -> Finding:
    routes = " and ".join(filter(None, (spec.health_route, spec.predict_route))) or "Vertex AI's own routes"
    return Finding(_NAME, True, f"the image starts, listens on port {port}, and is healthy; its routes are {routes}")


def _of_checks(found: list[checks.Check], requests: int, name: str) -> Iterator[Finding]:
    """Each breach by itself; the rest in one line."""
    for check in found:
        if not check.passed:
            detail = f"{check.detail}; the rule: {check.rule}"
            yield Finding(f"{_NAME}: {check.name}", False, detail, f"mend that, build again; cpr check {name} asks it")
    notes = sum(check.severity == "note" for check in found)
    asked = f"{requests} of the project's [[check]] requests" if requests else "none of the project's own requests"
    remedy = "" if requests else "add a [[check]] with request and expect to cpr.toml"
    if all(check.passed for check in found):
        more = f"; {notes} of them are notes, which cpr check shows" if notes else ""
        yield Finding(_NAME, True, f"{len(found)} checks, none broken, with {asked}{more}", remedy, note=not requests)


def _sample(request: CheckRequest) -> Sample:
    """As the harness compares: JSON by its numbers, other answers as text."""
    expected = None
    if request.expected is not None:
        try:
            expected = orjson.loads(request.expected)
        except ValueError:
            expected = request.expected.decode(errors="replace")
    return Sample(name=request.name, body=request.body, content_type=request.content_type, expect=expected)
