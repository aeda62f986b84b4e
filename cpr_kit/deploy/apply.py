"""One region's deployment: upload, endpoint, deployed model, traffic, in an order in which every stop can be mended.

Each step looks first whether it has been done, by an earlier run or by another. A step that fails takes back what the
run has made; a run that is killed leaves what the next one finds by name and finishes, or removes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cpr_kit.deploy import facts as known
from cpr_kit.deploy import lease, observe, traffic
from cpr_kit.deploy.artifacts import staged as artifacts
from cpr_kit.deploy.changes import (
    changed,
    delete_candidate,
    delete_if_empty,
    end_unfinished,
    endpoint_fields,
    give_back,
    settle_aliases,
    undeploy,
)
from cpr_kit.deploy.facts import LIVE, Facts
from cpr_kit.deploy.lease import Lease, LeaseLost
from cpr_kit.deploy.plan import RegionPlan, decide, first_share
from cpr_kit.deploy.plan_file import differences
from cpr_kit.deploy.predict import canary
from cpr_kit.deploy.predict.asking import Answer, Asker
from cpr_kit.deploy.resources import Endpoint, Version
from cpr_kit.deploy.target import OURS, CheckRequest, Target
from cpr_kit.deploy.traffic import ALL
from cpr_kit.deploy.undo import Undo, undoing
from cpr_kit.deploy.vertex import failures, logs
from cpr_kit.deploy.vertex.calls import Report, silent
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.engine.protocol import Engine
from cpr_kit.errors import DeclinedError, DeployError, RolledBack

_LOG_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run did in one region. `endpoint` is the resource's name; "" where there is none any more."""

    region: str
    changed: bool
    version: str
    endpoint: str
    lines: tuple[str, ...] = ()


def plan(
    target: Target, engine: Engine | None, vertex: Vertex, *, canary_share: int = 0, free: bool = False
) -> RegionPlan:
    """What `up` would do. Raises LackingError, DeployError; with `free`, DeclinedError where another run is at work."""
    facts = observe.observe(target, engine, vertex)
    if free:
        lease.check_free(facts.endpoint)
    return decide(target, facts, canary=canary_share, warnings=tuple(_warnings(facts, canary_share)))


def _warnings(facts: Facts, canary_share: int) -> Iterator[str]:
    if other := lease.holder(facts.endpoint):
        yield f"another cpr is at work on the endpoint ({other.told}): what exists may change before this is done"
    if canary_share and (facts.endpoint is None or not any(facts.endpoint.traffic.values())):
        yield f"no other version serves yet to compare with: the canary of {canary_share} % is left out"


def up(
    target: Target,
    engine: Engine | None,
    vertex: Vertex,
    *,
    planned: RegionPlan | None = None,
    exact: bool = True,
    canary_share: int = 0,
    take_lease: bool = False,
    report: Report = silent,
) -> Outcome:
    """Make what the target says true: exactly the steps of `plan`, none where nothing is to do.

    `planned` is refused when what exists has changed since; unless it need not be done `exact`ly: then what has to be
    done now is told and done. Raises RolledBack when the new version does not hold (`canary`, the project's own
    checks): the old one then has all traffic again, and nothing of the new one is left. Raises LeaseLost, and has
    changed nothing since, where another run has taken the endpoint over.
    """
    facts = observe.observe(target, engine, vertex)
    if not take_lease:
        lease.check_free(facts.endpoint)
    todo = decide(target, facts, canary=canary_share)
    planned = _still(target, planned, todo, report, exact=exact)
    if not todo.changes:
        if facts.endpoint:
            lease.clear(vertex, facts.endpoint, report)
        now = known.wanted(target, facts)
        return Outcome(
            region=target.region,
            changed=False,
            version=str(now),
            endpoint=facts.endpoint.name if facts.endpoint else "",
        )
    digest = observe.pushed(target, engine, report)
    facts = replace(facts, digest=digest, reference=observe.by_digest(target.image, digest))
    run = _Run(target, vertex, facts, canary_share, report, planned, exact=exact)
    with undoing(report) as made:
        endpoint = run.endpoint(made)
        # The lease is held while the rest is taken back, too; an endpoint that goes needs none.
        with lease.held(vertex, endpoint, report=report, take=take_lease) as mine, undoing(report) as run.undo:
            try:
                version = run.all(endpoint, mine)
            except LeaseLost:
                run.undo.forget()
                made.forget()
                raise
    return Outcome(
        region=target.region, changed=True, version=str(version), endpoint=endpoint.name, lines=tuple(run.lines)
    )


def _still(
    target: Target, planned: RegionPlan | None, now: RegionPlan, report: Report, *, exact: bool
) -> RegionPlan | None:
    """The plan that is to be done: what was `planned`, or what is to be done `now`. Raises DeclinedError."""
    if planned is None or planned.fingerprint == now.fingerprint:
        return planned
    if exact:
        raise DeclinedError(
            f"what exists in {target.region}, or what is wanted there, is no longer what the plan was made for",
            "make a new one: cpr plan",
        )
    report("what exists has changed since the plan was made; it was made again:")
    for line in differences(planned, now):
        report(f"  {line}")
    return now


class _Run:
    """The steps of one `up`, each of which may find its work done."""

    def __init__(
        self,
        target: Target,
        vertex: Vertex,
        facts: Facts,
        share: int,
        report: Report,
        planned: RegionPlan | None,
        *,
        exact: bool,
    ) -> None:
        self.target = target
        self.vertex = vertex
        self.facts = facts
        self.share = share
        self.planned = planned if facts.endpoint is not None else None
        self.exact = exact
        self.undo = Undo()
        self.lines: list[str] = []
        self._report = report

    def say(self, line: str) -> None:
        self.lines.append(line)
        self._report(line)

    def endpoint(self, undo: Undo) -> Endpoint:
        """The one that is there, or a new one. What another run makes meanwhile is not this run's to remove."""
        found, vertex = self.facts.endpoint, self.vertex
        if found is not None:
            if known.is_ours(found) and known.live(self.target, self.facts) is None:
                # A run that was killed has made it, and nothing has served from it yet.
                undo.add(f"delete endpoint {found.id}", lambda: delete_if_empty(vertex, found))
            return found
        self.say(f"create endpoint {self.target.endpoint} ({self.target.kind})")
        labels = {**self.target.labels, OURS: self.target.endpoint}
        endpoint, is_new = vertex.create_endpoint(self.target, labels)
        if is_new:
            undo.add(f"delete endpoint {endpoint.id}", lambda: delete_if_empty(vertex, endpoint))
        return endpoint

    def all(self, endpoint: Endpoint, mine: Lease) -> Version:
        """From here on nothing is changed but under the lease."""
        self._lease, self.vertex = mine, mine.vertex
        self.vertex.settle(endpoint.name, f"{self.vertex.parent}/models/{self.target.model}")
        self._look(endpoint)
        now = decide(self.target, self.facts, canary=self.share)  # another run may have changed what is possible
        _still(self.target, self.planned, now, self.say, exact=self.exact)
        self._change_endpoint(endpoint)
        self._end_unfinished(endpoint)
        self._remove_orphans()
        version = self._version()
        deployed_id = self._deployed(endpoint, version)
        self._look(endpoint)
        self._rescale(endpoint)
        self._shift(endpoint, version, deployed_id)
        self.undo.forget()
        self._finish(endpoint, version)
        return version

    def _look(self, endpoint: Endpoint) -> None:
        versions = tuple(self.vertex.versions(self.target.model))
        self.facts = replace(self.facts, endpoint=self.vertex.again(endpoint), versions=versions)

    def _change_endpoint(self, endpoint: Endpoint) -> None:
        now = self.facts.endpoint
        assert now is not None
        names = known.endpoint_changes(self.target, now)
        if not names:
            return
        self.say(f"change endpoint {now.id}: {', '.join(names)}")

        if "client_connection_config" in names:
            self.vertex.set_inference_timeout(endpoint, self.target)
            names.remove("client_connection_config")

        def write(one: Endpoint) -> Endpoint:
            return self.vertex.update_endpoint(one, endpoint_fields(self.target, one, names))

        if not names:
            return
        self.facts = replace(self.facts, endpoint=changed(self.vertex, endpoint, write))

    def _end_unfinished(self, endpoint: Endpoint) -> None:
        """What an ended run had begun with, and is not wanted: the live version gets its traffic back."""
        if end_unfinished(self.target, self.vertex, self.facts, endpoint, self.say):
            self._look(endpoint)

    def _remove_orphans(self) -> None:
        for version in known.orphans(self.target, self.facts):
            self.say(f"delete {version}, which a run that did not end has left")
            self.vertex.delete_version(version)

    def _version(self) -> Version:
        """The version that is wanted: found, or uploaded."""
        target, facts = self.target, self.facts
        found = known.wanted(target, facts)
        if found is not None:
            self._remove_staged()
            self._taken_back(found)
            return found
        uri = self._staged()
        self.say(f"upload a version of {target.model}")
        self.vertex.upload(
            target,
            known.spec_of(target, facts),
            uri,
            known.labels(target, facts),
            mark=known.mark(target, facts),
            alias=known.candidate(target, facts),
        )
        self.facts = replace(facts, versions=tuple(self.vertex.versions(target.model)))
        uploaded = known.wanted(target, self.facts)
        if uploaded is None:
            raise DeployError(f"{target.model} has no version with the description of this upload", "run it again")
        self._remove_orphans()  # an answer that was lost, or another run, may have made it twice
        self._taken_back(uploaded)
        self._remove_staged()
        return uploaded

    def _taken_back(self, version: Version) -> None:
        """One that is not live yet goes if it does not hold, whichever run has uploaded it."""
        if LIVE not in version.aliases and known.candidacy(version):
            self.undo.add(f"delete {version}", lambda: delete_candidate(self.vertex, version))

    def _staging(self) -> str:
        assert self.target.staging is not None
        return f"{self.target.staging.rstrip('/')}/{self.target.endpoint}"

    def _staged(self) -> str | None:
        """Where Vertex AI copies the artifacts from at upload."""
        source, digest = self.target.artifacts, self.facts.artifacts
        if source is None or digest is None or not self.target.staging:
            return source
        self.say(f"stage artifacts {source}")
        self._lease.check()
        self.undo.add("delete the staged artifacts", self._remove_staged)
        return artifacts.stage(source, self._staging(), digest, self._report, region=self.target.region)

    def _remove_staged(self) -> None:
        """A version has a copy of its own, so what was staged for it has done its work."""
        if self.target.artifacts and self.target.staging and self.facts.artifacts:
            self._lease.check()
            artifacts.remove_all(self._staging())

    def _deployed(self, endpoint: Endpoint, version: Version) -> str:
        """The id of the version's deployed model, started without traffic where another one serves."""
        target, now = self.target, self.vertex.again(endpoint)
        deployed_id = known.deployed_id(target, version)
        there = any(each.id == deployed_id for each in now.deployed)
        if not there or known.candidacy(version):
            keeper = known.live(target, self.facts)
            self.undo.add(f"undeploy {version}", lambda: undeploy(self.vertex, endpoint, deployed_id, keeper))
        if there:
            return deployed_id
        # Without a split the endpoint keeps its own (DeployModelRequest.traffic_split).
        split: Mapping[str, int] = {} if any(now.traffic.values()) else {"0": ALL}
        self.say(f"deploy {version} on {target.scale.machine_type}")
        try:
            self.vertex.deploy(endpoint, target, version, deployed_id, split)
        except DeployError as error:
            raise self._with_log(endpoint, deployed_id, error) from error
        return deployed_id

    def _with_log(self, endpoint: Endpoint, deployed_id: str, error: DeployError) -> DeployError:
        """The failure with the container's last lines, where they can be read: soon, or not at all."""
        lines = logs.tail(self.target.project, endpoint, deployed_id, _LOG_LINES)
        return failures.with_log(error, lines) if lines else error

    def _rescale(self, endpoint: Endpoint) -> None:
        now = known.current(self.target, self.facts)
        if now is not None and not known.same_scale(self.target, now):
            self.say(f"change the scale of {now.version}")
            self.vertex.rescale(endpoint, self.target, now.id)

    def _shift(self, endpoint: Endpoint, version: Version, deployed_id: str) -> None:
        """All traffic to the new version: by way of a canary where that is asked, and back if it does not hold."""
        now = self.facts.endpoint
        assert now is not None
        if now.traffic.get(deployed_id) == ALL and len(now.deployed) == 1 and LIVE in version.aliases:
            return
        old = {name: share for name, share in now.traffic.items() if share and name != deployed_id}
        if not old:  # a run that was killed has given it all the traffic before it was judged
            live = known.deployed_of(self.facts, known.live(self.target, self.facts))
            old = {each.id: ALL for each in live[:1] if each.id != deployed_id}
        self.undo.add("give the traffic back", lambda: give_back(self.vertex, endpoint, old))
        share = first_share(self.target, self.share) if old else 0
        if self.share and not old:
            self.say(f"no canary: no other version serves that {version} could be compared with")
        if share:
            self.say(f"{share} % of the traffic to {version}")
            self._split(endpoint, traffic.with_share(old, deployed_id, share))
            with self._told_when_stopped(version, share):
                against = max(old, key=lambda name: old[name]) if self.share else None
                self._judge(endpoint, version, deployed_id, against)
        self.say(f"all traffic to {version}")
        self._split(endpoint, {deployed_id: ALL})
        if not share:
            self._judge(endpoint, version, deployed_id, None)

    @contextlib.contextmanager
    def _told_when_stopped(self, version: Version, share: int) -> Iterator[None]:
        """Ctrl-C takes nothing back, so it has to say what stays."""
        try:
            yield
        except Exception:
            raise
        except BaseException:
            self.say(f"{version} keeps {share} % of the traffic; cpr rollback takes it back")
            raise

    def _split(self, endpoint: Endpoint, split: Mapping[str, int]) -> None:
        changed(self.vertex, endpoint, lambda one: self.vertex.set_traffic(one, split))

    def _judge(self, endpoint: Endpoint, version: Version, deployed_id: str, old: str | None) -> None:
        """Raises RolledBack when the new version does not hold against the checks, or against the old version."""
        target = self.target
        if old is None and (not target.checks or target.kind in ("psa", "psc")):
            why = "its endpoint is reached from its own network alone" if target.checks else "there is no [[check]]"
            self.say(f"{version} was not asked: {why}")
            return
        rules = target.canary if old else replace(target.canary, requests=len(target.checks))
        with Asker(self.vertex.again(endpoint), target.project, target.region) as asker:

            def ask(check: CheckRequest) -> Answer:
                return asker.predict(check.body, check.content_type)

            verdict = canary.observe(ask, target.checks, old, deployed_id, rules, self._report if old else silent)
        if not verdict.passed:
            raise RolledBack(f"{version} does not hold: {'; '.join(verdict.reasons)}")
        for reason in verdict.reasons if old else [f"{version} answered the project's checks as it should"]:
            self.say(reason)

    def _finish(self, endpoint: Endpoint, version: Version) -> None:
        """The new version is live, the one before it is what a rollback returns to, and the rest is removed."""
        self._look(endpoint)
        settle_aliases(self.vertex, self.facts, version)
        self._look(endpoint)
        kept = known.previous(self.target, self.facts)
        for each in known.outdated(self.target, self.facts):
            if each != kept:
                self.say(f"undeploy {each.version}")
                self.vertex.undeploy(endpoint, each.id)
        self._look(endpoint)
        self._remove_orphans()
