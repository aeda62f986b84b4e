"""The contract suite: what Vertex AI asks of a container, asked of one that runs, each breach by its rule.

A breach is something Vertex AI would stumble over. What it would not mind, but a caller would, is a note.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import orjson

from cpr_kit.contract import HEALTH_TIMEOUT_S, ContainerSpec
from cpr_kit.engine.protocol import Engine
from cpr_kit.errors import CprError
from cpr_kit.harness import client
from cpr_kit.harness.difference import difference
from cpr_kit.harness.endpoint import LocalEndpoint
from cpr_kit.harness.prediction import error_message
from cpr_kit.harness.target import Sample, Target

if TYPE_CHECKING:
    import requests

Severity = Literal["ok", "note", "breach"]
_OK, _BAD_REQUEST, _NOT_FOUND, _NOT_ALLOWED, _SERVER_ERROR = 200, 400, 404, 405, 500
_CONCURRENT = 4


@dataclass(frozen=True, kw_only=True)
class Check:
    """One rule and how it went. `passed` is False for a breach alone."""

    name: str
    rule: str
    severity: Severity
    detail: str

    @property
    def passed(self) -> bool:
        return self.severity != "breach"


@dataclass(frozen=True)
class Fault:
    """What a question found wrong: the detail of a check that did not pass."""

    detail: str


Finding = Fault | str
"""A fault, or the words for a pass."""


def run(target: Target, samples: Sequence[Sample] = ()) -> list[Check]:
    """The whole suite. Nothing is raised for what the server does; that is what the checks say."""
    return list(_suite(target, samples))


def listens_on_its_port(spec: ContainerSpec, engine: Engine, *, port: int = 18080, **options: Any) -> Check:
    """Start the image once more under another AIP_HTTP_PORT. `options` are LocalEndpoint's."""

    def question() -> Finding:
        with LocalEndpoint(replace(spec, ports=(port,)), engine, **options):
            return f"answers on port {port} when AIP_HTTP_PORT says so"

    return _check("port", "the server listens on 0.0.0.0 at the port of AIP_HTTP_PORT", question)


def _suite(target: Target, samples: Sequence[Sample]) -> Iterator[Check]:
    yield _check("health", "GET on the health route answers exactly 200 within 10 s", lambda: _health(target))
    yield _check("health method", "the health route answers GET alone", lambda: _health_method(target), "note")
    for sample in samples:
        yield from _sample_checks(target, sample)
    if not samples:
        yield Check(
            name="predict",
            rule="a prediction answers 200",
            severity="note",
            detail="not asked: there is no [[check]] request in cpr.toml",
        )
    yield _check(
        "malformed JSON",
        'a body that is no JSON gets a 4xx with {"error": {"message": ...}}',
        lambda: _malformed(target),
        "note",
    )
    yield _check("wrong method", "GET on the predict route gets 405", lambda: _wrong_method(target), "note")
    yield _check("unknown path", "a path that is no route gets 404", lambda: _unknown_path(target), "note")
    yield _check(
        "survival", "after bad requests health and predictions still answer", lambda: _survival(target, samples)
    )


def _sample_checks(target: Target, sample: Sample) -> Iterator[Check]:
    name = sample.name
    yield _check(f"predict {name}", "POST on the predict route answers 200", lambda: _answers(target, sample))
    if sample.instances is not None:
        rule = 'the reply is a JSON object with a list "predictions", one item per instance'
        yield _check(f"shape {name}", rule, lambda: _shape(target, sample))
        yield _check(
            f"type {name}", "a JSON reply is labelled application/json", lambda: _label(target, sample), "note"
        )
    if sample.expect is not None:
        rule = "the reply is the one that cpr.toml expects, numbers within 1e-6"
        yield _check(f"expected {name}", rule, lambda: _as_expected(target, sample))
    rule = "health answers 200 within 10 s while predictions run"
    yield _check(f"health under {name}", rule, lambda: _health_under_load(target, sample))


def _check(name: str, rule: str, question: Callable[[], Finding], severity: Severity = "breach") -> Check:
    """Ask; `severity` is what a fault amounts to."""
    try:
        finding = question()
    except CprError as error:
        finding = Fault(str(error))
    if isinstance(finding, str):
        return Check(name=name, rule=rule, severity="ok", detail=finding)
    return Check(name=name, rule=rule, severity=severity, detail=finding.detail)


def _health(target: Target) -> Finding:
    started = time.monotonic()
    status = target.health().status_code
    took = time.monotonic() - started
    if status != _OK or took > HEALTH_TIMEOUT_S:
        return Fault(f"GET {target.health_route} answered {status} after {took:.1f} s")
    return f"GET {target.health_route} answered 200 after {took * 1000:.0f} ms"


def _health_method(target: Target) -> Finding:
    response = client.send(target.base_url + target.health_route, b"{}", timeout_s=HEALTH_TIMEOUT_S)
    return _status(response, _NOT_ALLOWED, f"POST {target.health_route}")


def _answers(target: Target, sample: Sample) -> Finding:
    response = target.predict(sample.body, sample.content_type)
    if response.status_code != _OK:
        return Fault(f"POST {target.predict_route} answered {response.status_code}: {error_message(response)}")
    return f"POST {target.predict_route} answered 200, {len(response.content)} bytes"


def _shape(target: Target, sample: Sample) -> Finding:
    response = target.predict(sample.body, sample.content_type)
    try:
        reply = orjson.loads(response.content)
    except ValueError:
        return Fault(f"the reply is no JSON: {response.text[:200]}")
    predictions = reply.get("predictions") if isinstance(reply, dict) else None
    if not isinstance(predictions, list):
        return Fault(f'the reply has no list "predictions": {response.text[:200]}')
    if len(predictions) != sample.instances:
        return Fault(f"{len(predictions)} predictions for {sample.instances} instances")
    return f"{len(predictions)} predictions for {sample.instances} instances"


def _label(target: Target, sample: Sample) -> Finding:
    label = target.predict(sample.body, sample.content_type).headers.get("Content-Type", "")
    if label.partition(";")[0].strip().lower() != client.JSON:
        return Fault(f'the reply\'s content type is "{label}"')
    return label


def _as_expected(target: Target, sample: Sample) -> Finding:
    response = target.predict(sample.body, sample.content_type)
    if isinstance(sample.expect, str):
        same = response.text.strip() == sample.expect.strip()
        return "the same text" if same else Fault(f"expected {sample.expect[:200]!r}, got {response.text[:200]!r}")
    try:
        found = difference(sample.expect, orjson.loads(response.content))
    except ValueError:
        found = f"the reply is no JSON: {response.text[:200]}"
    return Fault(found) if found else "equal"


def _health_under_load(target: Target, sample: Sample) -> Finding:
    """Health is asked for as long as a few predictions run, and once after them."""
    slowest, asked = 0.0, 0
    with ThreadPoolExecutor(_CONCURRENT) as pool:
        busy = [pool.submit(target.predict, sample.body, sample.content_type) for _ in range(_CONCURRENT)]
        idle = False
        while not idle:
            idle = all(future.done() for future in busy)
            started = time.monotonic()
            status = target.health().status_code
            slowest, asked = max(slowest, time.monotonic() - started), asked + 1
            if status != _OK:
                return Fault(f"health answered {status} while predictions ran")
    return f"asked {asked} times, slowest answer {slowest * 1000:.0f} ms"


def _malformed(target: Target) -> Finding:
    response = target.predict(b'{"instances": [')
    status = response.status_code
    if not _BAD_REQUEST <= status < _SERVER_ERROR:
        return Fault(f"answered {status}: {response.text[:200]}")
    try:
        error = orjson.loads(response.content)["error"]["message"]
    except (ValueError, TypeError, KeyError):
        return Fault(f'answered {status}, without {{"error": {{"message": ...}}}}: {response.text[:200]}')
    return f"answered {status}: {error}"


def _wrong_method(target: Target) -> Finding:
    response = client.request("GET", target.base_url + target.predict_route, timeout_s=target.timeout_s)
    return _status(response, _NOT_ALLOWED, f"GET {target.predict_route}")


def _unknown_path(target: Target) -> Finding:
    path = "/no/such/route"
    return _status(client.request("GET", target.base_url + path, timeout_s=target.timeout_s), _NOT_FOUND, f"GET {path}")


def _survival(target: Target, samples: Sequence[Sample]) -> Finding:
    findings = [_health(target), *(_answers(target, sample) for sample in samples)]
    faults = [finding for finding in findings if isinstance(finding, Fault)]
    return faults[0] if faults else "still answers"


def _status(response: requests.Response, expected: int, what: str) -> Finding:
    if response.status_code != expected:
        return Fault(f"{what} answered {response.status_code} instead of {expected}")
    return f"{what} answered {expected}"
