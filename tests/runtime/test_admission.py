import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.runtime.admission import Deadlines, Gate, Overloaded, ServiceTime


def gate(max_queue=10, timeout=1.0, turns=(), limit=1):
    service = ServiceTime()
    service.limit = limit
    for requests, seconds in turns:
        service.observe(requests, seconds)
    return Gate(max_queue=max_queue, timeout=timeout, service=service)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back():
    full = gate(max_queue=2)
    full.enter()
    full.enter()
    with pytest.raises(Overloaded, match="2 requests are waiting already") as refused:
        full.enter()
    assert (refused.value.status_code, refused.value.retry_after) == (429, 1)
    full.leave()
    full.enter()


def test_what_cannot_be_answered_in_time_is_refused_before_it_waits():
    slow = gate(max_queue=1000, turns=[(1, 0.1)] * 5)
    for _ in range(7):
        slow.enter()
    with pytest.raises(Overloaded, match=r"about 0\.8 s, and a request has 1 s"):
        slow.enter()


def test_joined_requests_share_their_time():
    joined = gate(max_queue=1000, turns=[(64, 0.1), (8, 0.1)], limit=64)
    for _ in range(64 * 7):
        joined.enter()


def test_a_model_that_was_slow_once_gets_another_request():
    slow = gate(turns=[(1, 100.0)])
    slow.enter()
    with pytest.raises(Overloaded):
        slow.enter()
    slow.leave()
    slow.enter()


@given(st.floats(0, 1), st.floats(0, 0.1), st.lists(st.integers(1, 64), min_size=40, max_size=80), st.integers(1, 500))
def test_the_cost_of_a_turn_and_of_a_request_is_found(a, b, sizes, requests):
    service = ServiceTime()
    service.limit = 64
    for size in sizes:
        service.observe(size, a + b * size)
    if len(set(sizes[-20:])) > 1:
        assert service.expected(requests) == pytest.approx(-(-requests // 64) * a + b * requests, rel=0.05, abs=1e-3)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 100)), max_size=30), st.integers(0, 10_000))
def test_an_estimate_is_never_negative(turns, requests):
    service = ServiceTime()
    for size, seconds in turns:
        service.observe(size, seconds)
    assert service.expected(requests) >= 0


class Staying:
    def __init__(self, ended):
        self.ended = ended

    def expire(self):
        self.ended.append(self)


def test_whatever_stays_for_its_whole_time_expires_in_order_and_nothing_else_does():
    async def play():
        deadlines, ended = Deadlines(0.05), []
        first, gone, second = (Staying(ended) for _ in range(3))
        deadlines.add(first, time.perf_counter())
        deadlines.add(gone, time.perf_counter())
        await asyncio.sleep(0.01)
        deadlines.add(second, time.perf_counter())
        deadlines.remove(gone)
        deadlines.remove(gone)
        await asyncio.sleep(0.2)
        assert ended == [first, second]
        deadlines.add(gone, time.perf_counter() - 1)
        await asyncio.sleep(0.1)
        assert ended == [first, second, gone]

    asyncio.run(play())
