"""Back to the version that served before: in seconds where it is still deployed, else by deploying it again."""

from __future__ import annotations

from cpr_kit.deploy import facts as known
from cpr_kit.deploy import lease
from cpr_kit.deploy.apply import Outcome
from cpr_kit.deploy.changes import changed, end_unfinished
from cpr_kit.deploy.facts import LIVE, PREVIOUS, Facts
from cpr_kit.deploy.observe import find
from cpr_kit.deploy.plan import check_alone
from cpr_kit.deploy.resources import Endpoint, Version
from cpr_kit.deploy.target import Target
from cpr_kit.deploy.traffic import ALL
from cpr_kit.deploy.vertex.calls import Report, silent
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import DeclinedError


def rollback(target: Target, vertex: Vertex, *, take_lease: bool = False, report: Report = silent) -> Outcome:
    """All traffic to the version with the alias `previous`. A second rollback returns to the one left now.

    While a new version is on its way (a canary that was cut off), back means to the live one: the new one is removed.
    Raises DeclinedError where there is no endpoint, and where there is no version to return to.
    """
    endpoint = find(target, vertex)
    if endpoint is None:
        raise DeclinedError(
            f"there is no endpoint {target.endpoint} in {target.region}",
            "cpr up makes it; cpr status shows what there is",
        )
    check_alone(target, _facts(target, vertex, endpoint))
    with lease.held(vertex, endpoint, report=report, take=take_lease) as mine:
        vertex = mine.vertex
        vertex.settle(endpoint.name, f"{vertex.parent}/models/{target.model}")
        facts = _facts(target, vertex, endpoint)
        live = known.live(target, facts)
        begun = any(known.deployed_of(facts, version) for version in known.unfinished(target, facts))
        if begun and live is not None:
            _serve(target, vertex, endpoint, live, report)
            end_unfinished(target, vertex, _facts(target, vertex, endpoint), endpoint, report)
            return Outcome(region=target.region, changed=True, version=str(live), endpoint=endpoint.name)
        back = _previous(target, facts)
        _serve(target, vertex, endpoint, back, report)
        # `live` first: until `previous` has moved as well, a rollback that is run again finds the same version.
        vertex.alias(back, [LIVE])
        left = live if live and live.number != back.number else _other(target, vertex, endpoint, back)
        if left is not None:
            vertex.alias(left, [PREVIOUS])
        _remove_others(target, vertex, endpoint, back, report)
    return Outcome(region=target.region, changed=True, version=str(back), endpoint=endpoint.name)


def _facts(target: Target, vertex: Vertex, endpoint: Endpoint) -> Facts:
    """What is at Vertex AI alone: a rollback has nothing to do with what the project holds now."""
    versions = tuple(vertex.versions(target.model))
    return Facts(endpoint=vertex.again(endpoint), versions=versions, reference="", digest=None, artifacts=None)


def _previous(target: Target, facts: Facts) -> Version:
    found = next((each for each in facts.versions if PREVIOUS in each.aliases and known.key_of(target, each)), None)
    if found is None:
        raise DeclinedError(
            f"{target.model} in {target.region} has no version before the live one",
            "cpr up deploys what the project holds now",
        )
    return found


def _other(target: Target, vertex: Vertex, endpoint: Endpoint, back: Version) -> Version | None:
    """What served before a rollback that was cut off: still deployed, or else the newest of ours."""
    facts = _facts(target, vertex, endpoint)
    ours = [each for each in facts.versions if known.key_of(target, each) and each.number != back.number]
    return max(ours, key=lambda each: (bool(known.deployed_of(facts, each)), int(each.number)), default=None)


def _serve(target: Target, vertex: Vertex, endpoint: Endpoint, version: Version, report: Report) -> None:
    """All traffic to a version, on as many replicas as are wanted now; it is deployed where it is not."""
    report(f"back to {version}")
    found = known.deployed_of(_facts(target, vertex, endpoint), version)
    if found:
        deployed_id = found[0].id
        if not known.same_scale(target, found[0]):
            vertex.rescale(endpoint, target, deployed_id)
    else:
        deployed_id = known.deployed_id(target, version)
        report(f"deploy {version} again: it was undeployed when another version had taken over")
        serving = any(vertex.again(endpoint).traffic.values())
        vertex.deploy(endpoint, target, version, deployed_id, {} if serving else {"0": ALL})
    changed(vertex, endpoint, lambda one: vertex.set_traffic(one, {deployed_id: ALL}))


def _remove_others(target: Target, vertex: Vertex, endpoint: Endpoint, kept: Version, report: Report) -> None:
    for each in vertex.again(endpoint).deployed:
        if each.model == target.model and each.number != kept.number and not target.keep_previous:
            report(f"undeploy {each.version}")
            vertex.undeploy(endpoint, each.id)
