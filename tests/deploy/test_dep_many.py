"""Several regions at once: failures are kept, the others finish; uploads are paced; the image is one."""

import signal
import threading
import time

import dep_target
import pytest

from cpr_kit.deploy import many
from cpr_kit.deploy.many import RegionsFailed, Stop, Stopped
from cpr_kit.deploy.vertex.pace import Pace, PacedVertex
from cpr_kit.errors import DeployError, LackingError, RolledBack

REGIONS = ("us-central1", "europe-west4", "asia-east1")
TARGETS = [dep_target.target(region=region) for region in REGIONS]


def failing(error, *, at="europe-west4"):
    def work(target, report, stop):
        report(f"at work in {target.region}")
        if target.region == at:
            raise error
        return target.region

    return work


def test_one_region_s_failure_leaves_the_others_to_finish():
    error = DeployError("no room", "elsewhere")
    results = many.each(TARGETS, failing(error))

    assert results.done == {"us-central1": "us-central1", "asia-east1": "asia-east1"}
    assert results.failed == {"europe-west4": error}
    with pytest.raises(RegionsFailed, match="1 of 3 regions failed; us-central1, asia-east1 done") as caught:
        results.checked()
    assert "europe-west4: no room | elsewhere" in str(caught.value)
    assert caught.value.results is results


def test_results_are_in_the_order_of_the_regions_whoever_is_first():
    turns = [threading.Event() for _ in TARGETS]

    def work(target, report, stop):
        index = REGIONS.index(target.region)
        if index + 1 < len(turns):
            assert turns[index + 1].wait(30)
        turns[index].set()
        return target.region

    assert list(many.each(TARGETS, work).done) == list(REGIONS)


def test_a_single_region_s_error_comes_out_as_it_is():
    error = LackingError("no credentials")
    with pytest.raises(LackingError) as caught:
        many.each(TARGETS[1:2], failing(error)).checked()
    assert caught.value is error


@pytest.mark.parametrize(
    ("errors", "code"),
    [((RolledBack("slow"), RolledBack("wrong")), 1), ((RolledBack("slow"), DeployError("no", "room")), 4)],
)
def test_the_exit_code_is_that_of_all_failures_or_4(errors, code):
    failed = dict(zip(REGIONS, errors))
    with pytest.raises(RegionsFailed) as caught:
        many.Results(done={}, failed=failed).checked()
    assert caught.value.exit_code == code


def test_what_is_no_failure_of_a_region_is_raised_once_all_have_ended():
    ended = []

    def work(target, report, stop):
        if target.region == "us-central1":
            raise ZeroDivisionError
        ended.append(target.region)

    with pytest.raises(ZeroDivisionError):
        many.each(TARGETS, work)
    assert sorted(ended) == ["asia-east1", "europe-west4"]


def test_each_line_is_told_with_its_region_and_one_at_a_time():
    inside, lines = threading.Lock(), []

    def progress(region, line):
        assert inside.acquire(blocking=False)
        lines.append((region, line))
        time.sleep(0)
        inside.release()

    many.each(TARGETS, failing(DeployError("no", "room")), progress)
    assert sorted(lines) == sorted((region, f"at work in {region}") for region in REGIONS)


def test_ctrl_c_ends_the_regions_where_they_report_and_lets_them_leave_in_order():
    """As many as have begun: each gives back what it holds before the program ends."""
    begun, left = threading.Barrier(len(TARGETS)), []

    def work(target, report, stop):
        try:
            if begun.wait(30) == 0:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            while True:
                stop.sleep(30)
        finally:
            left.append(target.region)

    with pytest.raises(KeyboardInterrupt):
        many.each(TARGETS, work)
    assert sorted(left) == sorted(REGIONS)


def test_once_stopped_a_report_raises_what_no_except_exception_holds():
    stop, lines = Stop(), []
    report = stop.passes(lines.append)
    report("one")
    stop.set()
    with pytest.raises(Stopped):
        report("two")
    report("given back what was held")
    assert lines == ["one", "given back what was held"]
    assert not issubclass(Stopped, Exception)


def test_once_stopped_a_region_makes_no_call():
    stop = Stop()
    vertex = PacedVertex(TARGETS[0], pace=Pace(), stop=stop)
    assert vertex._call("look", lambda: "seen") == "seen"
    stop.set()
    with pytest.raises(Stopped):
        vertex._call("look", lambda: "seen")


def test_turns_are_two_seconds_apart_however_many_ask():
    now = [100.0]
    pace = Pace(2.0, clock=lambda: now[0])

    assert [pace.delay() for _ in range(3)] == [0.0, 2.0, 4.0]
    now[0] = 101.0
    assert pace.delay() == 5.0
    now[0] = 200.0
    assert pace.delay() == 0.0
