"""Requests at a rate, on a clock that nobody waits for: what is charged to whom."""

import threading

import pytest

from cpr_kit.compare import pace
from cpr_kit.compare.pace import Arrival
from cpr_kit.compare.requests import Request
from cpr_kit.deploy.predict.asking import Answer

REQUESTS = [Request(name=f"line {number}", body=str(number).encode()) for number in range(1, 5)]


class Clock(pace.Clock):
    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time

    def sleep_until(self, when):
        self.time = max(self.time, when)


def answer(status=200, body=b"{}"):
    return Answer(status=status, body=body, content_type="application/json", deployed_model="", seconds=0.0)


def taking(clock, *seconds, status=200):
    """Answers the requests one after the other, each in its time."""
    left = list(seconds)

    def ask(_request):
        clock.time += left.pop(0) if left else 0.0
        return answer(status)

    return ask


def test_a_stall_is_charged_to_all_who_would_have_come_meanwhile():
    clock = Clock()
    found = pace.run(taking(clock, 0.5), REQUESTS, rate=10, clock=clock, connections=1)
    assert [round(each.planned, 9) for each in found] == [0.0, 0.1, 0.2, 0.3]
    assert [round(each.latency, 9) for each in found] == [0.5, 0.4, 0.3, 0.2]  # not 0.5, 0, 0, 0
    load = pace.load("A", 10, [found])
    assert (load.p50_ms, load.max_ms) == (pytest.approx(300), pytest.approx(500))
    assert (load.late, load.late_max_ms) == (3, pytest.approx(400))
    assert load.achieved == pytest.approx(4 / 0.5)


def test_a_server_that_keeps_up_is_asked_at_the_rate():
    clock = Clock()
    load = pace.load(
        "A", 10, [pace.run(taking(clock, 0.05, 0.05, 0.05, 0.05), REQUESTS, rate=10, clock=clock, connections=1)]
    )
    assert load.achieved == pytest.approx(10)
    assert (load.late, load.p99_ms, load.requests) == (0, pytest.approx(50), 4)


def test_all_are_on_their_way_at_once_and_the_answers_keep_their_order():
    meeting = threading.Barrier(4, timeout=30)

    def ask(request):
        meeting.wait()
        return answer(500 if request.name == "line 3" else 200, b'{"error": "three"}')

    found = pace.run(ask, REQUESTS, rate=1000, connections=4)
    assert [each.error for each in found] == ["", "", "500: three", ""]
    assert [each.planned for each in found] == sorted(each.planned for each in found)


def test_errors_are_counted_and_not_averaged():
    slow = Arrival(planned=0, sent=0, done=1)
    quick = Arrival(planned=1, sent=1, done=1.001, error="429: the queue is full")
    load = pace.load("B", 1, [[slow, quick, quick]])
    assert (load.requests, load.errors, load.messages) == (3, 2, {"429: the queue is full": 2})
    assert (load.p50_ms, load.max_ms) == (1000, 1000)
    nothing = pace.load("B", 1, [[quick]])
    assert (nothing.p50_ms, nothing.max_ms, nothing.achieved) == (None, None, 0)


def test_what_an_asker_raises_ends_the_run():
    def ask(_request):
        raise ValueError("no credentials")

    with pytest.raises(ValueError, match="no credentials"):
        pace.run(ask, REQUESTS, rate=1000)


def test_both_sides_get_the_same_requests_in_turns():
    clock, order, renewed = Clock(), [], []
    sides = {side: lambda request, side=side: (order.append((side, request.name)), answer())[1] for side in "AB"}
    loads = pace.turns(
        sides,
        {side: lambda side=side: renewed.append(side) for side in "AB"},
        REQUESTS[:3], rate=2, seconds=2, clock=clock,
    )  # fmt: skip
    assert renewed == ["A", "B", "B", "A"]
    assert [loads[side].requests for side in "AB"] == [4, 4]
    for side in "AB":  # two blocks, each after a request that is not timed
        asked = [name for which, name in order if which == side]
        assert [asked[0], asked[3]] == ["line 1", "line 3"]
        assert (sorted(asked[1:3]), sorted(asked[4:])) == (["line 1", "line 2"], ["line 1", "line 3"])


def test_the_request_before_a_block_is_not_timed_but_an_error_of_it_counts():
    clock, first = Clock(), iter([503])
    ask = lambda _request: answer(next(first, 200), b'{"error": "cold"}')  # noqa: E731
    loads = pace.turns(
        {"A": ask, "B": ask}, dict.fromkeys("AB", lambda: None), REQUESTS, rate=1, seconds=4, clock=clock
    )
    assert (loads["A"].errors, loads["A"].requests, loads["A"].messages) == (1, 5, {"503: cold": 1})
    assert (loads["B"].errors, loads["B"].requests) == (0, 4)
