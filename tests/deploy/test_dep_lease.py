"""The lease on an endpoint: who holds it is told first, it is renewed, and whoever has lost it changes nothing more."""

import os
import re
import threading
import time
from dataclasses import replace

import dep_project
import pytest
from dep_paused import Paused
from dep_world import REGION, emulator, engine, image, project, target, target_of, vertex  # noqa: F401

from cpr_kit.deploy import api, apply, down, lease
from cpr_kit.deploy.facts import LIVE
from cpr_kit.deploy.lease import LABEL, Holder, LeaseLost
from cpr_kit.deploy.target import OURS
from cpr_kit.deploy.vertex.calls import silent
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import DeclinedError

TIMEOUT_S = 120


@pytest.fixture
def endpoint(vertex, target):  # noqa: F811
    """One of ours, with nothing deployed to it."""
    return vertex.create_endpoint(target, {OURS: "iris"})[0]


class Watched(Vertex):
    """Tells when the endpoint has been written for the second time."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.labels = []
        self.again_written = threading.Event()

    def update_endpoint(self, endpoint, fields):  # noqa: F811
        written = super().update_endpoint(endpoint, fields)
        self.labels.append(written.labels.get(LABEL))
        if len(self.labels) > 1:
            self.again_written.set()
        return written


def state(vertex):  # noqa: F811
    """What `up` changes, without the lease."""
    (endpoint,) = vertex.endpoints()  # noqa: F811
    labels = {name: value for name, value in endpoint.labels.items() if name != LABEL}
    return labels, endpoint.traffic, vertex.versions("iris")


def expires(vertex):  # noqa: F811
    """Once the lease of a program that stands still is over."""
    (endpoint,) = vertex.endpoints()  # noqa: F811
    left = Holder.read(endpoint.labels[LABEL]).until + 1 - time.time()
    assert left < TIMEOUT_S
    threading.Event().wait(left)
    assert lease.holder(endpoint) is None


def test_a_lease_is_renewed_while_its_holder_waits(vertex, endpoint, monkeypatch):  # noqa: F811
    monkeypatch.setattr(lease, "_LASTS_S", 2)
    watched = Watched(vertex.project, REGION, patience=vertex._call.patience)
    with lease.held(watched, endpoint, report=silent):
        assert watched.again_written.wait(TIMEOUT_S)
    first, second, *_ = map(Holder.read, watched.labels[:2])
    assert second.is_same(first)
    assert second.until >= first.until
    assert LABEL not in vertex.again(endpoint).labels


def test_a_lease_that_ran_out_and_that_nobody_took_is_renewed_before_a_change(vertex, endpoint):  # noqa: F811
    with lease.held(vertex, endpoint, report=silent) as mine:
        now = vertex.again(endpoint)
        over = replace(Holder.read(now.labels[LABEL]), until=1)
        vertex.update_endpoint(now, {"labels": {**now.labels, LABEL: str(over)}})
        mine.check()
        assert Holder.read(vertex.again(endpoint).labels[LABEL]).until > time.time()


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("elsewhere-7-9999999999-0", r"another cpr has taken over endpoint iris \(process 7 of another machine; its"),
        (None, r"this run's lease on endpoint iris \(its label cpr-lease\) was taken away"),
    ],
)
def test_no_change_is_made_without_the_lease(vertex, target, endpoint, label, said):  # noqa: F811
    def changes(one):
        now = one.again(endpoint)
        yield lambda: one.update_endpoint(now, {"labels": {}})
        yield lambda: one.set_traffic(now, {})
        yield lambda: one.upload(target, target.spec, None, {}, mark="m", alias="a")
        yield lambda: one.delete_endpoint(endpoint)
        yield lambda: one.undeploy(endpoint, "1")

    with lease.held(vertex, endpoint, report=silent) as mine:
        now = vertex.again(endpoint)
        labels = {OURS: "iris", **({LABEL: label} if label else {})}
        vertex.update_endpoint(now, {"labels": labels})
        before = state(vertex)
        for change in changes(mine.vertex):
            with pytest.raises(LeaseLost, match=said) as caught:
                change()
        assert caught.value.exit_code == 1
        assert state(vertex) == before
        assert mine.vertex.parent == vertex.parent
    assert vertex.again(endpoint).labels == labels, "another's lease is not this run's to give back"


def test_whoever_lost_an_expired_lease_stops_and_changes_nothing_more(engine, emulator, vertex, project):  # noqa: F811
    """A second process stands still until its lease is over and this one has taken it."""
    apply.up(target_of(project, "one"), engine, vertex)
    with Paused(target_of(project, "two"), dict(os.environ), lasts_s=2) as other:
        before = state(vertex)
        assert [each.number for each in before[2]] == ["1", "2"]
        expires(vertex)
        (found,) = vertex.endpoints()
        with lease.held(vertex, found, report=silent):
            kind, said, lines = other.goes_on()
            assert state(vertex) == before
            assert LABEL in vertex.again(found).labels
    assert kind == "LeaseLost", said
    assert re.search(rf"another cpr has taken over endpoint iris \(process {os.getpid()} of this machine; its", said)
    assert "this run changes nothing more" in said
    assert not any(line.startswith("undo") for line in lines), lines

    apply.up(target_of(project, "one"), engine, vertex)
    labels, traffic, (version,) = state(vertex)
    assert (list(traffic.values()), version.number, LIVE in version.aliases) == ([100], "1", True)
    assert LABEL not in vertex.again(found).labels


@pytest.fixture
def config(tmp_path, project):  # noqa: F811
    return dep_project.write(tmp_path / "project", project)


def test_a_second_up_says_first_who_is_at_work_and_until_when(emulator, engine, config, vertex, project):  # noqa: F811
    api.up(config, engine=engine)
    two = replace(config, image=replace(config.image, name=image("two")))
    stale = api.plan(two, engine=engine)
    (found,) = vertex.endpoints()
    said = rf"another cpr is at work on endpoint iris \(process {os.getpid()} of this machine; its lease ends at \d\d:\d\d UTC\)"
    with lease.held(vertex, found, report=silent):
        before = state(vertex)
        for plan in (None, stale):
            with pytest.raises(DeclinedError, match=said):
                api.up(two, plan=plan, engine=engine)
        with pytest.raises(DeclinedError, match=said):
            apply.up(target_of(project, "two"), engine, vertex, planned=stale.regions[0])
        assert any("another cpr is at work on the endpoint" in line for line in api.plan(two, engine=engine).warnings)
        assert state(vertex) == before
    api.up(two, plan=stale, engine=engine)
    api.down(two)


def test_what_changed_after_the_look_is_planned_again(emulator, engine, config, project):  # noqa: F811
    """But a plan that was to be done exactly is refused."""
    shown = api.plan(config, engine=engine)
    api.up(replace(config, image=replace(config.image, name=image("two"))), engine=engine)
    with pytest.raises(DeclinedError, match="the plan no longer holds"):
        api.up(config, plan=shown, engine=engine)
    lines = []
    done = api.up(config, plan=shown, exact=False, engine=engine, progress=lambda _, line: lines.append(line))
    assert done.done[REGION].version == "iris@2"
    assert "what exists has changed since the plan was made; it was made again:" in lines
    assert "  now: keep endpoint iris" in lines
    api.down(config)


class Overtaken(Vertex):
    """Another run does its work just before this one takes the lease."""

    def __init__(self, *args, other, **options):
        super().__init__(*args, **options)
        self.other = other

    def update_endpoint(self, endpoint, fields):  # noqa: F811
        other, self.other = self.other, None
        if other:
            other()
        return super().update_endpoint(endpoint, fields)


@pytest.mark.parametrize("exact", [True, False])
def test_what_changed_before_the_lease_was_taken_is_planned_again(engine, vertex, project, exact):  # noqa: F811
    one, two = target_of(project, "one"), target_of(project, "two")
    apply.up(one, engine, vertex)
    planned = apply.plan(two, engine, vertex)
    more = replace(one, labels={"team": "a"})
    patience = vertex._call.patience
    late = Overtaken(project, REGION, patience=patience, other=lambda: apply.up(more, engine, vertex))
    if exact:
        with pytest.raises(DeclinedError, match="no longer what the plan was made for"):
            apply.up(two, engine, late, planned=planned)
        assert len(vertex.versions("iris")) == 1
    else:
        lines = []
        done = apply.up(two, engine, late, planned=planned, exact=False, report=lines.append)
        assert done.version == "iris@2"
        assert "what exists has changed since the plan was made; it was made again:" in lines


def test_a_first_canary_has_nothing_to_compare_with(engine, vertex, target):  # noqa: F811
    (warning,) = apply.plan(target, engine, vertex, canary_share=10).warnings
    assert warning == "no other version serves yet to compare with: the canary of 10 % is left out"
    made = apply.up(target, engine, vertex, canary_share=10)
    assert "no canary: no other version serves that iris@1 could be compared with" in made.lines
    assert apply.plan(target, engine, vertex, canary_share=10).warnings == ()


class Interrupted(Vertex):
    """`meanwhile` is called before each change that is named."""

    def __init__(self, *args, meanwhile, before, **options):
        super().__init__(*args, **options)
        self.meanwhile, self.before = meanwhile, before

    def undeploy(self, *args):
        self.happens("undeploy")
        super().undeploy(*args)

    def delete_version(self, version):
        self.happens("delete_version")
        super().delete_version(version)

    def delete_endpoint(self, endpoint):  # noqa: F811
        self.happens("delete_endpoint")
        super().delete_endpoint(endpoint)

    def happens(self, name):
        if name in self.before:
            self.meanwhile(name)


def interrupted(vertex, meanwhile, *before):  # noqa: F811
    return Interrupted(vertex.project, REGION, patience=vertex._call.patience, meanwhile=meanwhile, before=before)


def test_down_lets_nobody_in_before_all_of_it_is_gone(engine, vertex, project, monkeypatch):  # noqa: F811
    """Staged artifacts too: those that another run has just staged are not to be taken from it."""
    one, two = target_of(project, "one"), target_of(project, "two")
    apply.up(one, engine, vertex)
    refused = []

    def another(name):
        with pytest.raises(DeclinedError, match="another cpr is at work on endpoint iris"):
            apply.up(two, engine, vertex)
        refused.append(name)

    monkeypatch.setattr(down.artifacts, "remove_all", another)
    one = replace(one, staging="gs://staged")
    told = []
    down.down(one, interrupted(vertex, another, "undeploy", "delete_version", "delete_endpoint"), report=told.append)
    assert not [line for line in told if "lease" in line]  # it is gone with the endpoint
    assert refused == ["undeploy", "delete_version", "gs://staged/iris", "delete_endpoint"]
    assert (vertex.endpoints(), vertex.versions("iris")) == ([], [])


@pytest.mark.parametrize("name", ["undeploy", "delete_version"])
def test_a_down_that_lost_its_lease_removes_nothing_more(engine, vertex, project, monkeypatch, name):  # noqa: F811
    one = target_of(project, "one")
    apply.up(one, engine, vertex)
    (found,) = vertex.endpoints()
    removed = []
    monkeypatch.setattr(down.artifacts, "remove_all", removed.append)

    def taken(_name):
        now = vertex.again(found)
        vertex.update_endpoint(now, {"labels": {**now.labels, LABEL: "elsewhere-7-9999999999-0"}})

    loses = interrupted(vertex, taken, name)
    with pytest.raises(LeaseLost, match="this run changes nothing more"):
        down.down(replace(one, staging="gs://staged"), loses)
    now = vertex.again(found)
    assert now.labels[LABEL] == "elsewhere-7-9999999999-0"
    left = 1 if name == "undeploy" else 0  # the change that was on its way is made, and none after it
    assert (len(now.deployed), len(vertex.versions("iris")), removed) == (0, left, [])
    down.down(one, vertex, take_lease=True)


def test_down_leaves_the_versions_to_a_run_that_makes_the_endpoint_meanwhile(engine, vertex, project):  # noqa: F811
    """Where the endpoint is gone, there is no lease that could be held."""
    one, two = target_of(project, "one"), target_of(project, "two")
    apply.up(one, engine, vertex)
    apply.up(two, engine, vertex)
    (found,) = vertex.endpoints()
    for each in found.deployed:
        vertex.undeploy(found, each.id)
    vertex.delete_endpoint(found)
    began = interrupted(vertex, lambda _: vertex.create_endpoint(one, {OURS: "iris"}), "delete_version")
    with pytest.raises(DeclinedError, match="another cpr has made endpoint iris while its model was being removed"):
        down.down(two, began)
    assert len(vertex.versions("iris")) == 1
    assert len(vertex.endpoints()) == 1
    down.down(two, vertex)
    assert (vertex.endpoints(), vertex.versions("iris")) == ([], [])
