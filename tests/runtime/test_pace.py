"""What is measured decides whether a turn runs on the server's loop."""

import concurrent.futures
import math
import time

import pytest

from cpr_kit.runtime.admission import ServiceTime
from cpr_kit.runtime.pace import Never, Pace


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def pace(seconds, turns=32, kind=Pace):
    service, clock = ServiceTime(), Clock()
    service.limit = 64
    made = kind(service, clock)
    for _ in range(turns):
        service.observe(1, seconds)
        made.observe(seconds, 40, here=False)
    return made, service, clock


def test_a_model_with_short_turns_is_answered_on_the_loop_and_one_without_never():
    assert pace(0.0003)[0].share(10, 40) == 10
    assert pace(0.003)[0].share(10, 40) == 0
    assert pace(0.0003, turns=31)[0].share(10, 40) == 0
    assert pace(0.0003, kind=Never)[0].share(10, 40) == 0


def test_one_long_turn_among_short_ones_keeps_a_model_in_its_thread():
    made, _, _ = pace(0.0003, turns=16)
    made.observe(0.5, 40, here=False)
    for _ in range(31):
        made.observe(0.0003, 40, here=False)
    assert made.share(1, 40) == 0
    made.observe(0.0003, 40, here=False)
    assert made.share(1, 40) == 1


def test_a_long_turn_on_the_loop_bars_it_for_longer_each_time():
    made, _, clock = pace(0.0003)
    for penalty in (10, 20, 40):
        assert made.share(1, 40) == 1
        made.observe(3.0, 40, here=True)
        for _ in range(32):
            made.observe(0.0003, 40, here=False)
        clock.now += penalty - 1
        assert made.share(1, 40) == 0
        clock.now += 1


def test_one_stall_of_the_machine_bars_nothing_and_two_in_a_row_do():
    made, _, _ = pace(0.0003)
    for seconds in (0.2, 0.0003, 0.2, 0.0003):
        made.observe(seconds, 40, here=True)
        assert made.share(1, 40) == 1
    made.observe(0.06, 40, here=True)
    made.observe(0.06, 40, here=True)
    assert made.share(1, 40) == 0


def test_a_bar_long_after_the_last_one_is_short_again():
    made, _, clock = pace(0.0003)
    for later, penalty in ((0, 10), (10, 20), (1000, 10)):
        clock.now += later
        made.observe(3.0, 40, here=True)
        for _ in range(32):
            made.observe(0.0003, 40, here=False)
        clock.now += penalty - 1
        assert made.share(1, 40) == 0
        clock.now += 1
        assert made.share(1, 40) == 1
        clock.now -= penalty


def test_no_more_are_taken_than_a_short_turn_answers():
    made, service, _ = pace(0.001)
    for _ in range(200):
        for requests in (1, 2, 4):
            service.observe(requests, 0.0005 + 0.0005 * requests)
    assert made.share(60, 40) == pytest.approx(7, abs=1)


def test_a_request_much_larger_than_those_that_were_measured_goes_to_the_thread():
    made, _, _ = pace(0.0003)
    assert made.share(1, 80) == 1
    assert made.share(1, 81) == 0
    assert made.share(1, math.inf) == 0


def test_only_what_is_not_an_authors_own_runs_on_the_loop():
    from cpr_kit import SklearnPredictor

    assert SklearnPredictor.inline
    for step in ("load", "preprocess", "predict", "postprocess"):
        assert not type("Own", (SklearnPredictor,), {step: lambda self, value: value}).inline
    assert type("Plain", (SklearnPredictor,), {}).inline


def test_a_model_that_turns_slow_goes_back_to_its_thread_and_health_is_free(serve):
    """The shipped predict on the loop first; then its author's preprocess begins to sleep."""
    server = serve("paces:FastThenSlow").ready()
    for _ in range(60):
        assert server.predict({"instances": [[1.0]]}).json() == {"predictions": [2.0]}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in range(2):
            slow = pool.submit(server.predict, {"instances": [[1.0]], "parameters": {"sleep": 2}})
            slow.result()
        slow = pool.submit(server.predict, {"instances": [[1.0]], "parameters": {"sleep": 2}})
        time.sleep(0.2)
        began = time.monotonic()
        assert server.health().status_code == 200
        assert time.monotonic() - began < 1
        assert not slow.done()
        assert slow.result().json() == {"predictions": [2.0]}
