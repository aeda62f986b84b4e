"""kill -9 after each remote call of `up` that makes a difference (see dep_kill): the next run finishes, nothing is left
over, and no request is lost.
"""

import contextlib
import itertools
import os
import threading

import dep_kill
import pytest
from dep_world import CHECK, FEW, REGION, emulator, engine, project, target, target_of, vertex  # noqa: F401

from cpr_kit.deploy import apply
from cpr_kit.deploy.predict.asking import Asker
from cpr_kit.deploy.facts import CANDIDATE, LIVE, PREVIOUS
from cpr_kit.deploy.lease import LABEL

FEWER_THAN_IT_MAKES, MORE_THAN_IT_MAKES = 8, 100


def settled(vertex, serving, versions):
    """One endpoint with one deployed model that has all traffic, and no trace of a run."""
    (endpoint,) = vertex.endpoints()
    assert [(each.number, each.traffic) for each in endpoint.deployed] == [(serving, 100)]
    assert LABEL not in endpoint.labels
    found = {each.number: set(each.aliases) for each in vertex.versions("iris")}
    assert set(found) == versions
    assert LIVE in found[serving]
    assert not any(name.startswith(CANDIDATE) for aliases in found.values() for name in aliases)
    assert [number for number, aliases in found.items() if LIVE in aliases] == [serving]
    return found


@contextlib.contextmanager
def asked(vertex):
    """A caller that never stops asking; every answer must be right."""
    (endpoint,) = vertex.endpoints()
    asker, stop, answers = Asker(endpoint, vertex.project, REGION), threading.Event(), []

    def ask():
        while not stop.wait(0.01):
            answers.append(asker.predict(CHECK.body, CHECK.content_type))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert answers
    assert {answer.status for answer in answers} == {200}
    assert all(b'"predictions"' in answer.body and b"7" in answer.body for answer in answers)


@pytest.mark.heavy
def test_a_first_up(engine, emulator, vertex):  # noqa: F811
    for after in itertools.count(1):
        one = target_of(f"{vertex.project}-{after}", "one")
        there = type(vertex)(one.project, REGION, patience=vertex._call.patience)
        code = dep_kill.run(after, one, dict(os.environ))
        assert code in (0, -9), f"call {after}"
        apply.up(one, engine, there)
        settled(there, "1", {"1"})
        assert not apply.up(one, engine, there).changed
        if code == 0:
            break
    assert FEWER_THAN_IT_MAKES < after < MORE_THAN_IT_MAKES


@pytest.mark.heavy
def test_a_new_version(engine, emulator, vertex):  # noqa: F811
    share = 30
    for after in itertools.count(1):
        one = target_of(f"{vertex.project}-{after}", "one", checks=())  # of what is killed later the checks are asked
        two = target_of(one.project, "two", canary=FEW)
        there = type(vertex)(one.project, REGION, patience=vertex._call.patience)
        apply.up(one, engine, there)
        with asked(there):
            code = dep_kill.run(after, two, dict(os.environ), canary_share=share)
            assert code in (0, -9), f"call {after}"
            apply.up(two, engine, there, canary_share=share)
        found = settled(there, "2", {"1", "2"})
        assert PREVIOUS in found["1"]
        assert not apply.up(two, engine, there).changed
        if code == 0:
            break
    assert FEWER_THAN_IT_MAKES < after < MORE_THAN_IT_MAKES


@pytest.mark.heavy
def test_another_project_after_a_killed_run_leaves_no_orphan(engine, emulator, vertex):  # noqa: F811
    """What was begun is not what is wanted next: it is removed."""
    for after in itertools.count(1, 2):
        one = target_of(f"{vertex.project}-{after}", "one")
        there = type(vertex)(one.project, REGION, patience=vertex._call.patience)
        code = dep_kill.run(after, one, dict(os.environ))
        apply.up(target_of(one.project, "two"), engine, there)
        live = [each for each in there.versions("iris") if LIVE in each.aliases]
        assert len(live) == 1
        left = {each.number for each in there.versions("iris")} - {live[0].number}
        # A run that was killed after its version had gone live has not left an orphan: that version did serve.
        assert all(PREVIOUS in each.aliases for each in there.versions("iris") if each.number in left)
        settled(there, live[0].number, {live[0].number, *left})
        if code == 0:
            break
