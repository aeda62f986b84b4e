"""Predictions from an endpoint that several regions have: the nearest is asked, and the next one where that fails."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from cpr_kit.deploy.predict.asking import JSON, UNREACHED, Answer, Asker
from cpr_kit.deploy.predict.failover import Call, Region, RegionalAnswer
from cpr_kit.deploy.predict.routing import Routes
from cpr_kit.deploy.project import regions as places
from cpr_kit.errors import DeployError, PredictionError, UsageError
from cpr_kit.harness import client as harness

_OK = 200
_ROUNDS = 3
_PROBES = 3


@dataclass(frozen=True, kw_only=True)
class RegionalPrediction:
    """What `Endpoint.predict` of the SDK returns, field by field, and the region that answered."""

    predictions: list[Any]
    deployed_model_id: str
    metadata: Any = None
    model_version_id: str | None = None
    model_resource_name: str | None = None
    region: str
    failed: Mapping[str, str] = field(default_factory=dict)


class RegionalClient:
    """One endpoint in several regions. Safe to use from several threads; it starts none that stays.

    `near` is the caller's region, from which the nearest is found; "probe" measures how far away each is, at the first
    request; without it `regions` stand in the order in which they are to be asked.

    A request goes on to the next region when the first cannot be reached, answers with a 5xx, or has no such endpoint
    any more. A 429 is given a pause and one more request there before it goes on, and leaves the region in place: the
    whole load would else move to where it causes the next 429. Other 4xx are the caller's, and go nowhere. When no
    region has answered, all are asked again after a pause, three times in all. A region that failed is left out for
    `cool_down_s`; then a single request tries it, which goes on to the next if it fails again.

    `deadline_s` is that of a whole call; a region gets half of what is left while there is another one to ask. It is
    twice what Vertex AI lets a request take, unless it is given.
    `kind="public"` says that it is a shared public endpoint whose id is `endpoint`: it is not looked up then, so that
    the caller needs aiplatform.endpoints.predict alone. `overrides` are the addresses of psc endpoints, by region.
    """

    def __init__(
        self,
        project: str,
        endpoint: str,
        regions: Sequence[str],
        *,
        near: str | None = None,
        deadline_s: float | None = None,
        cool_down_s: float = 10.0,
        kind: Literal["public"] | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        _check(regions, near)
        listed = places.nearest(near, regions) if near and near != "probe" else regions
        self._routes = Routes(listed, cool_down_s=cool_down_s)
        self._unmeasured = near == "probe"
        self._measuring = threading.Lock()
        self._deadline_s = deadline_s
        self._regions = {
            name: Region(project, name, endpoint, kind=kind, override=(overrides or {}).get(name)) for name in regions
        }

    def __enter__(self) -> RegionalClient:  # noqa: PYI034  typing.Self is not in Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for region in self._regions.values():
            region.close()

    @property
    def order(self) -> tuple[str, ...]:
        """The regions as they are asked."""
        return self._routes.order

    @property
    def down(self) -> tuple[str, ...]:
        """Regions that failed and have not answered since."""
        return self._routes.down

    def predict(self, instances: Sequence[Any], parameters: Any = None) -> RegionalPrediction:
        """Raises PredictionError for an answer that is an error, DeployError where no region could be reached."""
        body, _ = harness.encode({"instances": instances, **({} if parameters is None else {"parameters": parameters})})
        found = self._ask(lambda asker, wait_s: asker.predict(body, JSON, raw=False, deadline_s=wait_s))
        if found.status != _OK:
            raise PredictionError(found.status, f"{found.answer.message} ({_told(found)})")
        reply = found.answer.json()
        if not isinstance(reply, dict) or not isinstance(reply.get("predictions"), list):
            said = found.body[:200].decode(errors="replace")
            words = f'{found.region}: no JSON object with a list "predictions": {said}'
            raise PredictionError(_OK, words)
        return RegionalPrediction(
            predictions=reply["predictions"],
            deployed_model_id=found.answer.deployed_model,
            metadata=reply.get("metadata"),
            model_version_id=reply.get("modelVersionId"),
            model_resource_name=reply.get("model"),
            region=found.region,
            failed=found.failed,
        )

    def raw_predict(self, body: bytes, headers: Mapping[str, str] | None = None) -> RegionalAnswer:
        """Any bytes; an error is an answer, as in the SDK. Raises DeployError where no region could be reached."""
        sent = {name: value for name, value in (headers or {}).items() if name.lower() != "content-type"}
        kinds = [value for name, value in (headers or {}).items() if name.lower() == "content-type"]
        kind = kinds[0] if kinds else JSON
        return self._ask(lambda asker, wait_s: asker.predict(body, kind, headers=sent, raw=True, deadline_s=wait_s))

    def probe(self) -> dict[str, float]:
        """Measure how far away the regions are, in seconds, and ask them in that order from now on."""
        with ThreadPoolExecutor(len(self._regions)) as pool:
            found = dict(zip(self._regions, pool.map(_distance, self._regions.values()), strict=True))
        self._routes.order = sorted(found, key=lambda name: found[name])
        return found

    def _ask(self, send: Callable[[Asker, float], Answer]) -> RegionalAnswer:
        self._measured()
        call = Call(self._routes, self._regions, send, self._deadline_s)
        for number in range(_ROUNDS):
            if number and not call.again(number):
                break
            if found := call.round():
                return found
        return call.given_up()

    def _measured(self) -> None:
        if self._unmeasured:
            with self._measuring:
                if self._unmeasured:
                    self.probe()
                    self._unmeasured = False


def _check(regions: Sequence[str], near: str | None) -> None:
    if isinstance(regions, str) or not regions:
        given = f'"{regions}"' if isinstance(regions, str) else "empty"
        raise UsageError(f'regions is {given}; give a list, such as ["us-central1", "europe-west4"]')
    for region in regions:
        places.check(region)
    if len(set(regions)) < len(regions):
        raise UsageError(f"regions names one of {', '.join(regions)} twice")
    if near and near != "probe":
        places.check(near)


def _distance(region: Region) -> float:
    """The quickest of a few round trips after the connection is there; infinite where there is none."""
    try:
        asker = region.asker()
    except DeployError:
        return math.inf
    if asker.reach().status == UNREACHED:
        return math.inf
    return min(answer.seconds if answer.status else math.inf for answer in (asker.reach() for _ in range(_PROBES)))


def _told(found: RegionalAnswer) -> str:
    others = "; ".join(f"{name}: {words}" for name, words in found.failed.items())
    return f"{found.region}; before it {others}" if others else found.region
