"""One request on its way through several regions: what a region's answer means, and when it goes on to the next."""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cpr_kit.deploy.predict.asking import DEADLINE_S, UNREACHED, Answer, Asker
from cpr_kit.deploy.predict.routing import Routes
from cpr_kit.deploy.resources import Endpoint
from cpr_kit.deploy.vertex.calls import Patience
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import DeployError

_OK, _BAD_REQUEST, _NOT_FOUND, _TOO_MANY, _FAULT, _NOT_THERE = 200, 400, 404, 429, 500, 501
_REGION_FAULTS = {UNREACHED, 502, 503}
"""Of these a region is the cause. A 500 or 504 may be the request's: it counts once another region has answered it."""
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 2.0
_LOOK_AGAIN_S = 1.0
_LOOKUP = Patience(total_s=2.0, first_s=0.2, longest_s=0.5)


@dataclass(frozen=True, kw_only=True)
class RegionalAnswer:
    """`failed` says of the regions that were asked before `region` why they did not answer."""

    region: str
    answer: Answer
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def body(self) -> bytes:
        return self.answer.body

    @property
    def content_type(self) -> str:
        return self.answer.content_type


class Region:
    """The endpoint in one region, looked up when it is first asked, and again after it failed."""

    def __init__(
        self, project: str, name: str, endpoint: str, *, kind: Literal["public"] | None, override: str | None
    ) -> None:
        self.name = name
        self._project = project
        self._endpoint = endpoint
        self._told = kind
        self._override = override
        self._asker: Asker | None = None
        self._vertex: Vertex | None = None
        self._looked = -math.inf
        self._lock = threading.Lock()

    def asker(self) -> Asker:
        """Raises DeployError where there is no such endpoint, or nobody says whether there is."""
        with self._lock:
            if self._asker is None:
                found = self._given() if self._told else self._found()
                if found is None:
                    raise DeployError(
                        f'project {self._project} has no endpoint "{self._endpoint}" in {self.name}',
                        f"deploy it there: cpr up --region {self.name}",
                    )
                self._asker = Asker(found, self._project, self.name, override=self._override)
            return self._asker

    def forget(self) -> None:
        """What was made anew since has another address."""
        with self._lock:
            # Not closed: other threads may be waiting for an answer of it.
            self._asker = None

    def close(self) -> None:
        with self._lock:
            if self._asker:
                self._asker.close()
            self._asker = None

    def serves(self, asked: Endpoint) -> bool:
        """Whether `asked` is still there and a model of it has traffic, as Vertex AI says, or said within a second.

        It is held to be so where Vertex AI does not tell this caller.
        """
        with self._lock:
            if time.monotonic() - self._looked < _LOOK_AGAIN_S:
                return True
            with contextlib.suppress(DeployError):
                found = self._found()
                if found is None or (found.id, found.dns) != (asked.id, asked.dns):
                    return False
                if not any(each.traffic or found.kind == "psa" for each in found.deployed):
                    return False
            self._looked = time.monotonic()
            return True

    def _found(self) -> Endpoint | None:
        if self._vertex is None:
            self._vertex = Vertex(self._project, self.name, patience=_LOOKUP)
        return self._vertex.endpoint(self._endpoint)

    def _given(self) -> Endpoint:
        name = f"projects/{self._project}/locations/{self.name}/endpoints/{self._endpoint}"
        return Endpoint(id=self._endpoint, name=name, display_name=self._endpoint, kind="public")


class Call:
    """One request on its way through the regions."""

    def __init__(
        self,
        routes: Routes,
        regions: Mapping[str, Region],
        send: Callable[[Asker, float], Answer],
        deadline_s: float | None,
    ) -> None:
        self._routes = routes
        self._regions = regions
        self._send = send
        self._began = time.monotonic()
        self._deadline = self._began + (deadline_s or 2 * DEADLINE_S["public"])
        self._extends = deadline_s is None
        self._failed: dict[str, str] = {}
        self._suspects: set[str] = set()
        self._last: tuple[str, Answer] | None = None

    def round(self) -> RegionalAnswer | None:
        """Each region once, until one answers."""
        for name, more in self._turns():
            answer = self._attempt(self._regions[name], more=more)
            if answer is None:
                continue
            self._routes.answered(name)
            for other in self._suspects - {name}:
                self._down(other)
            self._failed.pop(name, None)
            return RegionalAnswer(region=name, answer=answer, failed=dict(self._failed))
        return None

    def again(self, number: int) -> bool:
        """A pause before the next round; False where there is no time for one, or no sense in it."""
        if len(self._regions) > 1 and self._suspects == set(self._regions):
            return False  # the same request was a server's fault everywhere: it is the model's
        return self._wait(_FIRST_PAUSE_S * 2 ** (number - 1))

    def given_up(self) -> RegionalAnswer:
        """The last error that a model or Vertex AI gave. Raises DeployError where there is none."""
        if self._last is None:
            found = "; ".join(f"{name}: {words}" for name, words in self._failed.items()) or "the deadline was over"
            raise DeployError(
                f"no region answered: {found}", "look at the endpoints: cpr status; and at this machine's network"
            )
        name, answer = self._last
        others = {other: words for other, words in self._failed.items() if other != name}
        return RegionalAnswer(region=name, answer=answer, failed=others)

    def _turns(self) -> Iterator[tuple[str, bool]]:
        tried: set[str] = set()
        while self._left() > 0 and (name := self._routes.choose(tried)):
            tried.add(name)
            yield name, len(tried) < len(self._regions)

    def _attempt(self, region: Region, *, more: bool) -> Answer | None:
        """None where another region is to be asked."""
        try:
            asker = region.asker()
        except DeployError as error:
            self._down(region.name, str(error))
            return None
        if self._extends:
            self._deadline = max(self._deadline, self._began + 2 * DEADLINE_S[asker.endpoint.kind])
        answer = self._sent(asker, more=more)
        if answer.status == _TOO_MANY and self._eased(answer, more=more):
            answer = self._sent(asker, more=more)
        if _is_the_caller_s(answer) and not (_may_be_gone(answer) and not region.serves(asker.endpoint)):
            return answer
        self._note(region, answer)
        return None

    def _sent(self, asker: Asker, *, more: bool) -> Answer:
        return self._send(asker, max(0.01, self._left() / 2 if more else self._left()))

    def _eased(self, answer: Answer, *, more: bool) -> bool:
        """The pause that a 429 asks for; where it is a long one and there are other regions, they are asked instead."""
        pause = _asked_pause(answer)
        return not (more and pause > _LONGEST_PAUSE_S) and self._wait(pause)

    def _note(self, region: Region, answer: Answer) -> None:
        words = f"{answer.status or 'no connection'}: {answer.message[:200]}"
        self._failed[region.name] = words
        if answer.status != UNREACHED:
            self._last = (region.name, answer)
        if answer.status in _REGION_FAULTS or _may_be_gone(answer):
            self._down(region.name, words)
        elif answer.status != _TOO_MANY:
            self._suspects.add(region.name)

    def _down(self, name: str, words: str | None = None) -> None:
        if words:
            self._failed[name] = words
        self._routes.failed(name)
        self._regions[name].forget()

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _wait(self, seconds: float) -> bool:
        """With up to half as much again, so that callers that were refused together do not come back together."""
        seconds *= 1 + random.random() / 2  # noqa: S311 - no secret
        if seconds >= self._left():
            return False
        time.sleep(seconds)
        return True


def _is_the_caller_s(answer: Answer) -> bool:
    """Whether no other region would say anything else: right answers, and what is wrong with the request."""
    return (_OK <= answer.status < _FAULT and answer.status != _TOO_MANY) or _may_be_gone(answer)


def _may_be_gone(answer: Answer) -> bool:
    """What an endpoint that was deleted, moved or emptied answers; a model may give the same, but is named then."""
    return answer.status in {_BAD_REQUEST, _NOT_FOUND, _NOT_THERE} and not answer.deployed_model


def _asked_pause(answer: Answer) -> float:
    """What Retry-After asks for, in seconds, else a short pause."""
    try:
        return max(0.0, float(answer.headers.get("retry-after", "")))
    except ValueError:
        return _FIRST_PAUSE_S
