"""Whether a new version may have all the traffic: the project's checks are sent to the endpoint, and the two compared.

Requests fall on the versions as the traffic split has it, so that at 10 % the new version answers one in ten.
"""

from __future__ import annotations

import collections
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence

from cpr_kit.deploy.predict.asking import UNREACHED, Answer
from cpr_kit.deploy.predict.verdict import LEAST, Sample, Verdict, exceeds, fault, judge
from cpr_kit.deploy.target import CheckRequest
from cpr_kit.deploy.vertex.calls import Report, silent
from cpr_kit.deploy_config import CanaryRules
from cpr_kit.errors import UsageError

_TOO_MANY = 429
_THREADS = 4
# A fifth of the 30,000 requests a minute that a project may send to shared endpoints ("Quotas and limits"): the
# endpoint's own callers are to notice nothing.
_PER_SECOND = 100.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 10.0
# Without any answer for so long, and for ten times what the old version takes, the requests that are out hang.
_STUCK_S, _STUCK_RATIO = 30.0, 10.0
_END_S = 2.0
# How many times the requests asked for are sent, at most, to have enough answers of the old version beside them.
_LONGER = 20


def observe(
    ask: Callable[[CheckRequest], Answer],
    checks: Sequence[CheckRequest],
    old: str | None,
    new: str,
    rules: CanaryRules,
    report: Report = silent,
) -> Verdict:
    """Ask until deployed model `new` has answered `rules.requests` times, its failure is certain or the time is over.

    `old` is the deployed model that it is compared with, and is to have answered often enough for that; without one,
    each check must have been answered once. An error
    that names no deployed model is held against the new version; a 429 and a connection that failed are not, since
    Vertex AI's front and the network give those: they slow the requests down, and are reported. What `ask` raises
    comes out. Raises UsageError where there are no checks.
    """
    if not checks:
        raise UsageError(
            "a canary is judged by the answers to the project's checks, and there are none; add a [[check]] with "
            "request and expected to cpr.toml, or deploy without --canary"
        )
    run = _Run(ask, checks, old, new, rules)
    run.until_certain(report)
    verdict = judge(run.new, run.old if old else None, rules)
    missed = tuple(f'check "{name}" got no answer of the new version' for name in run.missed())
    reasons = (*missed, *(() if missed and verdict.passed else verdict.reasons), *run.notes())
    return Verdict(verdict.passed and not missed, reasons, {**verdict.figures, **run.figures()})


class _Run:
    """The requests of one canary, sent by a few threads at a steady pace; the caller's thread waits and reports."""

    def __init__(
        self,
        ask: Callable[[CheckRequest], Answer],
        checks: Sequence[CheckRequest],
        old: str | None,
        new: str,
        rules: CanaryRules,
    ) -> None:
        self.new: list[Sample] = []
        self.old: list[Sample] = []
        self._ask = ask
        self._titles = [check.name for check in checks]
        self._names = {new: self.new, **({old: self.old} if old else {})}
        self._rules = rules
        self._checks = itertools.cycle(enumerate(checks))
        # Without an old version it is a look at all that was deployed: each check counts then. With one, the requests
        # fall where they fall, and a check of many may never meet the new version.
        self._unseen = set() if old else set(range(len(checks)))
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._raised: BaseException | None = None
        self._next = time.monotonic()
        self._answered = time.monotonic()
        self._out = 0
        self._stuck = 0
        self._delayed: collections.Counter[str] = collections.Counter()
        self._in_a_row = 0
        self._others = 0
        self._errors = 0
        self._longest_s = 0.0

    def until_certain(self, report: Report) -> None:
        threads = [threading.Thread(target=self._work, daemon=True, name=f"canary-{i}") for i in range(_THREADS)]
        for thread in threads:
            thread.start()
        try:
            self._wait(report)
        finally:
            self._stop.set()
        deadline = time.monotonic() + _END_S
        for thread in threads:  # one that hangs is left behind: it is a daemon, and what it gets is not looked at
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._raised:
            raise self._raised

    def missed(self) -> list[str]:
        """Checks without an answer of the new version, where each must have one and no error ended it all before."""
        failed = exceeds(self._errors, len(self.new), self._rules)
        return [] if failed else [self._titles[number] for number in sorted(self._unseen)]

    def notes(self) -> list[str]:
        found = [f"{count} requests were put off: {text}" for text, count in self._delayed.most_common(2)]
        if self._stuck:
            found.append(f"{self._stuck} requests had no answer yet when the canary was judged")
        return found

    def figures(self) -> dict[str, float]:
        return {
            "requests_other": float(self._others),
            "requests_put_off": float(self._delayed.total()),
            "requests_unanswered": float(self._stuck),
        }

    def _wait(self, report: Report) -> None:
        deadline = time.monotonic() + self._rules.timeout_s
        said = 0
        while True:
            with self._changed:
                now, until = time.monotonic(), min(deadline, self._answered + self._patience())
                if self._raised or self._certain():
                    return
                if now >= until:
                    self._stuck = self._out
                    return
                self._changed.wait(until - now)
                count, errors = len(self.new), self._errors
            if (tenth := 10 * count // self._rules.requests) > said:
                said = tenth
                report(f"canary: {count} of {self._rules.requests} requests, {errors} wrong")

    def _certain(self) -> bool:
        count = len(self.new)
        enough = count >= self._rules.requests and not self._unseen and self._comparable(count)
        return enough or exceeds(self._errors, count, self._rules)

    def _comparable(self, count: int) -> bool:
        """Whether the old version has answered often enough for its latency to be compared.

        The requests fall by chance: a slow version must not pass because too few of them met the old one. An old
        version that gets next to none is not waited for.
        """
        without = len(self._names) == 1 or self._rules.requests < LEAST
        return without or len(self.old) >= LEAST or count >= _LONGER * self._rules.requests

    def _patience(self) -> float:
        """How long no answer at all may come; without limit while the old version has not shown how long it takes."""
        return max(_STUCK_S, _STUCK_RATIO * self._longest_s) if self._longest_s else math.inf

    def _work(self) -> None:
        try:
            while self._paced():
                with self._changed:
                    number, check = next(self._checks)
                    self._out += 1
                answer = self._ask(check)
                self._take(number, check, answer)
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the caller's thread
            with self._changed:
                self._raised = self._raised or error
                self._changed.notify_all()

    def _paced(self) -> bool:
        """Wait for this thread's turn; False once it is over."""
        with self._changed:
            now = time.monotonic()
            self._next = max(now, self._next) + 1 / _PER_SECOND
            pause = self._next - now
            if self._in_a_row:
                pause += min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._in_a_row - 1, 10))
        return not self._stop.wait(pause)

    def _take(self, number: int, check: CheckRequest, answer: Answer) -> None:
        error = fault(check, answer)
        with self._changed:
            self._out -= 1
            if self._stop.is_set():
                return
            self._answered = time.monotonic()
            if answer.status in {UNREACHED, _TOO_MANY} and not answer.deployed_model:
                self._delayed[error] += 1
                self._in_a_row += 1
            else:
                self._in_a_row = 0
                if self._sort(answer, error) is self.new:
                    self._unseen.discard(number)
            self._changed.notify_all()

    def _sort(self, answer: Answer, error: str) -> list[Sample] | None:
        named = bool(answer.deployed_model)
        samples = self._names.get(answer.deployed_model) if named else self.new if error else None
        if samples is None:
            self._others += 1
            return None
        samples.append(Sample(seconds=answer.seconds, error=error, named=named))
        if samples is self.new:
            self._errors += bool(error)
        elif not error:
            self._longest_s = max(self._longest_s, answer.seconds)
        return samples
