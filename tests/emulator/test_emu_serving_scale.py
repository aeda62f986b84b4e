"""A deployed model that gets more or fewer replicas while it serves, on both engines."""

import threading
import urllib.request

import pytest
from emu_serving import ask, engine_used, image, lines, place, turns, wait_for  # noqa: F401 - fixtures

from cpr_kit.emulator.errors import ApiError, Code


def begun(work, *arguments):
    """It runs in a thread; the thread, and where its error will be."""
    errors = []

    def run():
        try:
            work(*arguments)
        except ApiError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def test_more_replicas_are_ready_when_scale_returns_and_fewer_are_gone(place, engine_used):
    deployed = place()
    deployed.start()
    first = deployed.choose()
    deployed.scale(3)
    assert deployed.ready_replicas == 3
    assert len({deployed.choose().base_url for _ in range(3)}) == 3
    assert [path.name for path in deployed.log_files] == ["5-77-0.log", "5-77-1.log", "5-77-2.log"]
    deployed.scale(1)
    assert deployed.ready_replicas == 1
    assert deployed.choose() is first
    assert [each.id for each in engine_used.left()] == [engine_used.containers[0].id]
    assert all(path.read_text() == "serving\n" for path in deployed.log_files)
    deployed.scale(2)
    assert deployed.ready_replicas == 2
    assert len(engine_used.left()) == 2
    assert deployed.log_files[1].read_text() == "serving\nserving\n"


def test_the_same_number_changes_nothing(place, engine_used):
    deployed = place(replicas=2)
    deployed.start()
    deployed.scale(2)
    assert deployed.ready_replicas == len(engine_used.containers) == 2


def test_a_new_replica_gets_no_traffic_before_all_are_ready(place, turns):
    turns.free = 2
    deployed = place(extra_env=turns.env)
    deployed.start()
    first = deployed.choose()
    scaling, errors = begun(deployed.scale, 3)
    assert turns.come.wait(60)
    assert {deployed.choose() for _ in range(4)} == {first}
    turns.go_on.set()
    scaling.join()
    assert not errors
    assert len({deployed.choose() for _ in range(3)}) == 3


def test_a_new_replica_that_fails_leaves_what_there_was(place, engine_used, turns):
    turns.free = 1
    deployed = place(extra_env=turns.env)
    deployed.start()
    first = deployed.choose()
    scaling, errors = begun(deployed.scale, 3)
    assert turns.come.wait(60)
    wait_for(lambda: len(engine_used.containers) == 3)
    engine_used.containers[-1].kill()
    scaling.join()
    assert errors[0].code is Code.FAILED_PRECONDITION
    assert "exit_code: 137" in str(errors[0])
    assert len(engine_used.left()) == 1
    assert deployed.choose() is first
    assert ask(first)


def test_a_replica_that_leaves_finishes_what_it_has(place, engine_used):
    deployed = place(replicas=2)
    deployed.start()
    replica, answers = next(each for each in (deployed.choose(), deployed.choose()) if each.number == 1), []
    request = threading.Thread(target=lambda: answers.append(ask(replica, do="hold")))
    request.start()
    wait_for(lambda: "held" in deployed.log_files[1].read_text())
    scaling, _ = begun(deployed.scale, 1, 60)
    wait_for(lambda: deployed.ready_replicas == 1)
    assert {deployed.choose().number for _ in range(4)} == {0}
    assert scaling.is_alive()
    with urllib.request.urlopen(f"{replica.base_url}/release", timeout=10):
        pass
    request.join()
    scaling.join()
    assert answers
    assert len(engine_used.left()) == 1


def test_a_scaling_that_is_given_up_leaves_what_there_was(place, engine_used, turns):
    turns.free = 1
    deployed = place(extra_env=turns.env)
    deployed.start()
    scaling, errors = begun(deployed.scale, 3)
    assert turns.come.wait(60)
    deployed.give_up_scaling()
    scaling.join()
    assert errors[0].code is Code.CANCELLED
    assert len(engine_used.left()) == deployed.ready_replicas == 1
    turns.go_on.set()
    deployed.scale(2)
    assert deployed.ready_replicas == 2


def test_stop_ends_a_scaling_under_way(place, engine_used, turns):
    turns.free = 1
    deployed = place(extra_env=turns.env)
    deployed.start()
    scaling, errors = begun(deployed.scale, 2)
    assert turns.come.wait(60)
    deployed.stop(30)
    scaling.join()
    assert errors[0].code is Code.CANCELLED
    assert not engine_used.left()


def test_stop_does_not_wait_for_a_replica_that_leaves(place, engine_used):
    deployed = place(replicas=2)
    deployed.start()
    replica = next(each for each in (deployed.choose(), deployed.choose()) if each.number == 1)
    with replica.busy():
        scaling, _ = begun(deployed.scale, 1, 60)
        wait_for(lambda: deployed.ready_replicas == 1)
        deployed.stop(0)
        assert not engine_used.left()
    scaling.join()


def test_what_was_stopped_does_not_grow(place, engine_used):
    deployed = place()
    deployed.start()
    deployed.stop(0)
    with pytest.raises(ApiError) as caught:
        deployed.scale(2)
    assert caught.value.code is Code.CANCELLED
    assert not engine_used.left()
    deployed.scale(0)


def test_a_new_replica_is_kept_as_the_first_ones_are(place):
    deployed = place()
    deployed.start()
    deployed.scale(2)
    deployed.kill_replica(1)
    wait_for(lambda: deployed.ready_replicas == 1)
    wait_for(lambda: deployed.ready_replicas == 2)
