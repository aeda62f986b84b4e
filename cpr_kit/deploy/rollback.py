"""Back to the version that served before: in seconds where it is still deployed, else by deploying it again."""

from __future__ import annotations

from cpr_kit.deploy import facts as known
from cpr_kit.deploy import lease
from cpr_kit.deploy.apply import Outcome, changed, settle_aliases
from cpr_kit.deploy.calls import Report, silent
from cpr_kit.deploy.facts import LIVE, PREVIOUS, Facts
from cpr_kit.deploy.resources import Endpoint, Version
from cpr_kit.deploy.target import Target
from cpr_kit.deploy.traffic import ALL
from cpr_kit.deploy.undo import undoing
from cpr_kit.deploy.vertex import Vertex
from cpr_kit.errors import DeployError


def rollback(target: Target, vertex: Vertex, *, take_lease: bool = False, report: Report = silent) -> Outcome:
    """All traffic to the version with the alias `previous`. A second rollback returns to the one left now.

    Raises DeployError where there is no endpoint, or no version before the live one.
    """
    endpoint = vertex.endpoint(target.endpoint)
    if endpoint is None:
        raise DeployError(f"there is no endpoint {target.endpoint} in {target.region}", "cpr status shows what exists")
    with lease.held(vertex, endpoint, report=report, take=take_lease):
        vertex.settle(endpoint.name)
        versions = tuple(vertex.versions(target.model))
        back = next((each for each in versions if PREVIOUS in each.aliases), None)
        if back is None:
            raise DeployError(
                f"{target.model} in {target.region} has no version before the live one",
                "cpr up deploys what the project holds now",
            )
        report(f"back to {back}")
        with undoing(report) as undo:
            deployed_id = _deployed(target, vertex, endpoint, back, report)
            undo.forget()
        changed(vertex, endpoint, lambda one: vertex.set_traffic(one, {deployed_id: ALL}))
        facts = Facts(endpoint=vertex.again(endpoint), versions=versions, reference="", digest=None, artifacts=None)
        settle_aliases(vertex, facts, back)
        _remove_others(target, vertex, endpoint, deployed_id, report)
    return Outcome(region=target.region, changed=True, version=str(back), endpoint=endpoint.name)


def _deployed(target: Target, vertex: Vertex, endpoint: Endpoint, version: Version, report: Report) -> str:
    now = vertex.again(endpoint)
    found = next((d for d in now.deployed if (d.model, d.number) == (version.model, version.number)), None)
    if found is not None:
        return found.id
    deployed_id = known.deployed_id(target, version)
    report(f"deploy {version} again: it was undeployed when {LIVE} went to another version")
    serving = {name: share for name, share in now.traffic.items() if share}
    vertex.deploy(endpoint, target, version, deployed_id, {**serving, "0": 0} if serving else {"0": ALL})
    return deployed_id


def _remove_others(target: Target, vertex: Vertex, endpoint: Endpoint, kept: str, report: Report) -> None:
    for each in vertex.again(endpoint).deployed:
        if each.model == target.model and each.id != kept and not target.keep_previous:
            report(f"undeploy {each.version}")
            vertex.undeploy(endpoint, each.id)
