"""Runs that end midway with a version that is no good, or that are followed by another command than they were.

A run is cut off right after a call: neither it nor anything after it is made. `test_dep_kill.py` kills programs for
real; here the state that they leave is made quickly, for every call.
"""

from dataclasses import replace

import pytest
from dep_world import FEW, PATIENCE, REGION, emulator, engine, project, target, target_of, vertex  # noqa: F401

from cpr_kit.deploy import apply
from cpr_kit.deploy.vertex.calls import Caller
from cpr_kit.deploy.down import down
from cpr_kit.deploy.facts import CANDIDATE, LIVE, PREVIOUS
from cpr_kit.deploy.lease import LABEL
from cpr_kit.deploy.rollback import rollback
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import DeployError, RolledBack


class Cut(BaseException):
    pass


class Mortal(Caller):
    """Makes so many calls, and none after them."""

    left = 0

    def __call__(self, *args, **fields):
        if self.left <= 0:
            raise Cut
        answer = super().__call__(*args, **fields)
        self.left -= 1
        if not self.left:
            raise Cut
        return answer


def cut(project, after, act):  # noqa: F811
    """Whether `act` was cut off before its end."""
    mortal = Vertex(project, REGION, patience=PATIENCE)
    mortal._call = Mortal(PATIENCE)
    mortal._call.left = after
    try:
        act(mortal)
    except (Cut, RolledBack):
        return mortal._call.left <= 0
    return False


def cuts(start, step):
    """Numbers of calls after which a run is cut, far enough apart for a test that ends soon."""
    return range(start, 60, step)


def state(vertex):  # noqa: F811
    (endpoint,) = vertex.endpoints()
    assert LABEL not in endpoint.labels
    versions = {each.number: set(each.aliases) - {"default"} for each in vertex.versions("iris")}
    assert not any(name.startswith(CANDIDATE) for names in versions.values() for name in names)
    return {each.number: each.traffic for each in endpoint.deployed}, versions


@pytest.mark.heavy
@pytest.mark.parametrize("share", [0, 30])
def test_a_bad_version_is_taken_back_by_the_run_after_the_one_that_was_cut(engine, vertex, project, share):  # noqa: F811
    for after in cuts(8, 5):
        name = f"{project}-{after}"
        there = Vertex(name, REGION, patience=PATIENCE)
        apply.up(target_of(name, "one"), engine, there)
        bad = target_of(name, "wrong")
        was_cut = cut(name, after, lambda v, bad=bad: apply.up(bad, engine, v, canary_share=share))
        with pytest.raises(RolledBack):
            apply.up(bad, engine, there, canary_share=share, take_lease=True)
        assert state(there) == ({"1": 100}, {"1": {LIVE}}), after
        if not was_cut:
            break


@pytest.mark.heavy
def test_a_first_version_that_is_bad_leaves_nothing_after_a_cut(engine, vertex, project):  # noqa: F811
    for after in cuts(4, 5):
        name = f"{project}-{after}"
        there = Vertex(name, REGION, patience=PATIENCE)
        bad = target_of(name, "wrong")
        was_cut = cut(name, after, lambda v, bad=bad: apply.up(bad, engine, v))
        with pytest.raises(RolledBack):
            apply.up(bad, engine, there, take_lease=True)
        assert (there.endpoints(), there.versions("iris")) == ([], []), after
        if not was_cut:
            break


@pytest.mark.heavy
@pytest.mark.parametrize("next_one", ["two", "broken"])
def test_what_a_cut_canary_has_is_not_the_next_ones(engine, vertex, project, next_one):  # noqa: F811
    """The share of the version that was on its way goes back to the live one before anything else."""
    for after in cuts(16, 7):
        name = f"{project}-{after}"
        there = Vertex(name, REGION, patience=PATIENCE)
        apply.up(target_of(name, "one"), engine, there)
        wrong, following = (target_of(name, kind, canary=FEW) for kind in ("wrong", next_one))
        was_cut = cut(name, after, lambda v, wrong=wrong: apply.up(wrong, engine, v, canary_share=20))
        try:
            apply.up(following, engine, there, canary_share=20, take_lease=True)
            serving, versions = state(there)
            (number,) = serving
            assert serving == {number: 100}
            assert versions == {"1": {PREVIOUS}, number: {LIVE}}
        except DeployError:
            assert next_one != "two"
            assert state(there) == ({"1": 100}, {"1": {LIVE}}), after
        if not was_cut:
            break


@pytest.mark.heavy
@pytest.mark.parametrize("kept", [False, True])
def test_a_rollback_ends_a_canary_that_was_cut(engine, vertex, project, kept):  # noqa: F811
    for after in cuts(14, 7):
        name = f"{project}-{after}"
        there = Vertex(name, REGION, patience=PATIENCE)
        apply.up(target_of(name, "one"), engine, there)
        two, three = (target_of(name, kind, keep_previous=kept) for kind in ("two", "wrong"))
        apply.up(two, engine, there)
        serving, versions = state(there)
        was_cut = cut(name, after, lambda v, three=three: apply.up(three, engine, v, canary_share=20))
        if any(each.number == "3" for each in there.endpoints()[0].deployed):
            assert rollback(two, there, take_lease=True).version == "iris@2"
            assert state(there) == (serving, versions), after
        if not was_cut:
            break


@pytest.mark.heavy
@pytest.mark.parametrize("kept", [False, True])
def test_a_rollback_that_was_cut_ends_where_it_was_to(engine, vertex, project, kept):  # noqa: F811
    for after in cuts(3, 3):
        name = f"{project}-{after}"
        there = Vertex(name, REGION, patience=PATIENCE)
        apply.up(target_of(name, "one"), engine, there)
        two = target_of(name, "two", keep_previous=kept)
        apply.up(two, engine, there)
        was_cut = cut(name, after, lambda v, two=two: rollback(two, v))
        if was_cut:
            done = {LIVE} == set(
                next(each.aliases for each in there.versions("iris") if each.number == "1")
            ) - {"default"}  # fmt: skip
            if not done:
                assert rollback(two, there, take_lease=True).version == "iris@1", after
                assert state(there) == ({"1": 100, **({"2": 0} if kept else {})}, {"1": {LIVE}, "2": {PREVIOUS}}), after
        else:
            break


@pytest.mark.heavy
def test_a_down_that_was_cut_is_finished_by_the_next(engine, vertex, project):  # noqa: F811
    for after in cuts(2, 5):
        name = f"{project}-{after}"
        there = Vertex(name, REGION, patience=PATIENCE)
        one = target_of(name, "one")
        apply.up(one, engine, there)
        was_cut = cut(name, after, lambda v, one=one: down(one, v))
        down(one, there, take_lease=True)
        assert (there.endpoints(), there.versions("iris")) == ([], []), after
        if not was_cut:
            break


def test_models_of_others_keep_what_they_have(engine, vertex, project):  # noqa: F811
    """An endpoint that is shared: idle models of others stay idle, and serving ones keep their traffic."""
    one = target_of(project, "one")
    endpoint, _ = vertex.create_endpoint(one, {"team": "others"})
    theirs = target_of(project, "two", model="theirs", labels={})
    vertex.upload(theirs, theirs.spec, None, {}, mark="by hand", alias="theirs")
    (version,) = vertex.versions("theirs")
    vertex.deploy(endpoint, theirs, version, "7", {"0": 100})
    for act in (lambda: apply.up(one, engine, vertex), lambda: rollback(one, vertex)):
        with pytest.raises(DeployError, match=r"gives 100 % of its traffic to models that are not iris: theirs@1"):
            act()
    vertex.set_traffic(vertex.again(endpoint), {})
    with pytest.raises(RolledBack):
        apply.up(target_of(project, "wrong"), engine, vertex)
    assert vertex.again(endpoint).traffic == {"7": 0}
    apply.up(one, engine, vertex)
    down(one, vertex)
    assert vertex.again(endpoint).traffic == {"7": 0}
    assert [each.model for each in vertex.again(endpoint).deployed] == ["theirs"]


def test_two_endpoints_of_one_name_where_the_id_cannot_be_chosen(engine, vertex, project):  # noqa: F811
    """Private Service Connect: an answer of CreateEndpoint that was lost has made a second one."""
    wanted = replace(target_of(project, "one"), kind="psc", project_allowlist=(project,))
    for _ in range(2):
        vertex.create_endpoint(wanted, {"cpr-kit": "iris"})
    assert len(vertex.endpoints("iris")) == 2
    apply.up(wanted, engine, vertex)
    assert not apply.up(wanted, engine, vertex).changed
    down(wanted, vertex)
    assert vertex.endpoints() == []
