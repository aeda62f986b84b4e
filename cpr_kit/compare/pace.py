"""Requests at a given rate, whatever becomes of the ones before.

The arrivals are planned: one each 1/rate seconds. A latency counts from the planned arrival, and not from when the
request could be sent, so that a server which stalls is charged for all who would have come meanwhile.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cpr_kit.compare.asking import CONNECTIONS, Ask
from cpr_kit.compare.requests import Request
from cpr_kit.deploy.predict.verdict import percentile

_LATE_S = 0.01
"""A request that leaves later than this after its planned time is one that the client was late with."""


class Clock:
    """Seconds from any zero; tests have one that nobody waits for."""

    def now(self) -> float:
        return time.perf_counter()

    def sleep_until(self, when: float) -> None:
        if (left := when - self.now()) > 0:
            time.sleep(left)


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One request: when it was to go, when it went, when its answer was there. `error` is empty for a right answer."""

    planned: float
    sent: float
    done: float
    error: str = ""

    @property
    def latency(self) -> float:
        return self.done - self.planned


@dataclass(frozen=True, kw_only=True)
class Load:
    """One side at one rate. Times are in ms, and of right answers alone: None where there is none.

    `late` requests left more than 10 ms after their time: all connections were in use, or this machine was too slow.
    """

    side: str
    rate: float
    requests: int
    errors: int
    achieved: float
    """Right answers a second, from the first planned arrival until the next block could begin."""
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    late: int
    late_max_ms: float
    messages: Mapping[str, int] = field(default_factory=dict)
    """How often each error was answered."""


def run(
    ask: Ask, requests: Sequence[Request], *, rate: float, clock: Clock | None = None, connections: int = CONNECTIONS
) -> list[Arrival]:
    """Ask each at its time, on so many connections at most; the arrivals in their order."""
    clock = clock or Clock()
    waiting = enumerate(requests)
    lock = threading.Lock()
    found: dict[int, Arrival] = {}
    faults: list[BaseException] = []
    over = threading.Event()
    began = clock.now()

    def work() -> None:
        try:
            while not over.is_set():
                with lock:
                    taken = next(waiting, None)
                if taken is None:
                    return
                index, request = taken
                found[index] = _one(ask, request, began + index / rate, clock)
        except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
            faults.append(error)
            over.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(connections, len(requests)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        over.set()  # Ctrl-C ends the wait here; the threads send nothing more
    if faults:
        raise faults[0]
    return [found[index] for index in sorted(found)]


def _one(ask: Ask, request: Request, planned: float, clock: Clock) -> Arrival:
    clock.sleep_until(planned)
    sent = clock.now()
    answer = ask(request)
    error = "" if answer.ok else f"{answer.status or 'no answer'}: {answer.message}"
    return Arrival(planned=planned, sent=sent, done=clock.now(), error=error)


def turns(
    asks: Mapping[str, Ask],
    renew: Mapping[str, Callable[[], None]],
    requests: Sequence[Request],
    *,
    rate: float,
    seconds: float,
    clock: Clock | None = None,
) -> dict[str, Load]:
    """Each side for so many seconds at the rate: A, B, B, A, so that whatever drifts meanwhile hits both alike.

    Both get the same requests in the same order. A block begins on connections of its own, with one request that is
    not timed; only that it failed counts.
    """
    clock = clock or Clock()
    first, second = asks
    count = max(1, round(rate * seconds / 2))
    blocks: dict[str, list[list[Arrival]]] = {first: [], second: []}
    for side in (first, second, second, first):
        done = len(blocks[side]) * count
        some = list(itertools.islice(itertools.cycle(requests), done % len(requests), done % len(requests) + count))
        renew[side]()
        opening = _one(asks[side], some[0], clock.now(), clock)
        block = run(asks[side], some, rate=rate, clock=clock)
        blocks[side].append([opening, *block] if opening.error else block)
    return {side: load(side, rate, found) for side, found in blocks.items()}


def load(side: str, rate: float, blocks: Sequence[Sequence[Arrival]]) -> Load:
    """What the blocks of one side come to. Pure."""
    arrivals = [arrival for block in blocks for arrival in block]
    right = [arrival.latency * 1000 for arrival in arrivals if not arrival.error]
    # The interval after the last arrival is one in which nobody else was to come.
    lasted = sum(max(max(each.done for each in block) - block[0].planned, len(block) / rate) for block in blocks)
    late = [each.sent - each.planned for each in arrivals if each.sent - each.planned > _LATE_S]
    shares: dict[str, Any] = {
        f"{name}_ms": percentile(right, share) if right else None
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    }
    errors = Counter(each.error for each in arrivals if each.error)
    return Load(
        side=side,
        rate=rate,
        requests=len(arrivals),
        errors=sum(errors.values()),
        achieved=len(right) / lasted if lasted else 0.0,
        late=len(late),
        late_max_ms=max(late, default=0.0) * 1000,
        messages=dict(errors.most_common()),
        **shares,
    )
