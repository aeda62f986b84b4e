"""One region of several: UploadModel and DeployModel at a common pace, and an end for all of them at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy.many import Stop
from cpr_kit.deploy.resources import Endpoint, Version
from cpr_kit.deploy.target import Target
from cpr_kit.deploy.vertex.calls import Caller, Patience, Report, silent
from cpr_kit.deploy.vertex.client import Vertex

PAUSE_S = 2.0
"""Vertex AI's documents warn against either call more than once in this time ("Import models to Vertex AI")."""


class Pace:
    """Lets one caller through at a time, and the next one no sooner than `pause_s` after it. For several threads."""

    def __init__(self, pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause_s = pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock()

    def delay(self) -> float:
        """Takes the next turn; the seconds until it has come."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._pause_s
            return turn - now


class PacedVertex(Vertex):
    """`pace` and `stop` are shared by all regions that are worked on."""

    def __init__(
        self,
        target: Target,
        *,
        pace: Pace,
        stop: Stop,
        report: Report = silent,
        patience: Patience | None = None,
    ) -> None:
        super().__init__(target.project, target.region, report=report, patience=patience)
        self._call = _Stoppable(stop, patience, report)
        self._pace = pace
        self._stop = stop

    def upload(
        self,
        target: Target,
        spec: ContainerSpec,
        artifact_uri: str | None,
        labels: Mapping[str, str],
        *,
        mark: str,
        alias: str,
    ) -> None:
        self._stop.sleep(self._pace.delay())
        super().upload(target, spec, artifact_uri, labels, mark=mark, alias=alias)

    def deploy(
        self, endpoint: Endpoint, target: Target, version: Version, deployed_id: str, split: Mapping[str, int]
    ) -> None:
        self._stop.sleep(self._pace.delay())
        super().deploy(endpoint, target, version, deployed_id, split)


class _Stoppable(Caller):
    """Makes no call once all is to end. An operation that is waited for is looked at by such calls too."""

    def __init__(self, stop: Stop, patience: Patience | None, report: Report) -> None:
        super().__init__(patience, report)
        self._stop = stop

    def __call__(self, *args: Any, **fields: Any) -> Any:
        self._stop.sleep(0)
        return super().__call__(*args, **fields)
