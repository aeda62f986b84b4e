"""Removing what `up` has made, and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable

from cpr_kit.deploy import lease
from cpr_kit.deploy.apply import Outcome
from cpr_kit.deploy.artifacts import staged as artifacts
from cpr_kit.deploy.changes import undeploy
from cpr_kit.deploy.facts import is_ours, key_of
from cpr_kit.deploy.lease import LABEL
from cpr_kit.deploy.observe import find
from cpr_kit.deploy.plan import RegionPlan, Step
from cpr_kit.deploy.resources import Endpoint, Version
from cpr_kit.deploy.target import Target
from cpr_kit.deploy.vertex.calls import Report, silent
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import DeclinedError


def plan_down(target: Target, vertex: Vertex) -> RegionPlan:
    """What `down` would remove. The image stays in its repository: others may use it."""
    endpoint, versions = find(target, vertex), vertex.versions(target.model)
    steps = []
    if endpoint is not None:
        for each in endpoint.deployed:
            ours = each.model == target.model
            steps.append(
                Step(
                    action="undeploy" if ours else "keep",
                    what="deployed model",
                    name=each.version,
                    reason=f"{each.traffic} % of the traffic" if ours else "another model's",
                )
            )
    for version in versions:
        ours = key_of(target, version) is not None
        steps.append(
            Step(
                action="delete" if ours else "keep",
                what="model version",
                name=str(version),
                reason="" if ours else "it was not uploaded by cpr",
            )
        )
    if endpoint is not None:
        goes = _goes(target, endpoint)
        steps.append(
            Step(
                action="delete" if goes else "keep",
                what="endpoint",
                name=endpoint.id,
                reason="" if goes else "it was made by others, or serves another model",
            )
        )
    return RegionPlan(project=target.project, region=target.region, endpoint=target.endpoint, steps=tuple(steps))


def down(target: Target, vertex: Vertex, *, take_lease: bool = False, report: Report = silent) -> Outcome:
    """Undeploy the model, delete the endpoint and the versions that carry this kit's labels. Safe to run again.

    The outcome's lines name what has gone.
    """
    endpoint = find(target, vertex)
    if endpoint is None:
        return _outcome(target, "", _leftovers(target, vertex, None, functools.partial(_none, target, vertex), report))
    with lease.held(vertex, endpoint, report=report, take=take_lease) as mine:
        mine.vertex.settle(endpoint.name)
        removed = _emptied(target, mine.vertex, endpoint, report)
        removed += _leftovers(target, mine.vertex, endpoint, mine.check, report)
        # The lease ends with the endpoint, so it goes last: a run after one that was killed still finds it.
        now = mine.vertex.again(endpoint)
        goes = _goes(target, now) and not now.deployed
        removed += _deleted(mine.vertex, now, report) if goes else []
    return _outcome(target, "" if goes else endpoint.name, removed)


def _outcome(target: Target, endpoint: str, removed: list[str]) -> Outcome:
    return Outcome(region=target.region, changed=bool(removed), version="", endpoint=endpoint, lines=tuple(removed))


def _none(target: Target, vertex: Vertex) -> None:
    """Without an endpoint there is no lease to hold. Raises DeclinedError where another run has made one meanwhile."""
    if found := vertex.endpoint(target.endpoint):
        raise DeclinedError(
            f"another cpr has made endpoint {found.display_name} while its model was being removed",
            "wait until it is done; then cpr down removes that too",
        )


def _leftovers(
    target: Target, vertex: Vertex, endpoint: Endpoint | None, check: Callable[[], None], report: Report
) -> list[str]:
    """Beside the endpoint: its doubles, the versions, the staged artifacts. `check` raises where they are another's."""
    removed = _delete_doubles(target, vertex, endpoint, report)
    vertex.settle(f"{vertex.parent}/models/{target.model}")
    for version in _in_order(target, vertex.versions(target.model)):
        check()
        report(f"delete {version}")
        vertex.delete_version(version)
        removed.append(f"model version {version}")
    if target.staging:
        check()
        artifacts.remove_all(f"{target.staging.rstrip('/')}/{target.endpoint}")
    return removed


def _deleted(vertex: Vertex, endpoint: Endpoint, report: Report) -> list[str]:
    report(f"delete endpoint {endpoint.id}")
    vertex.delete_endpoint(endpoint)
    return [f"endpoint {endpoint.id}"]


def _delete_doubles(target: Target, vertex: Vertex, endpoint: Endpoint | None, report: Report) -> list[str]:
    """Endpoints of the same name that two runs at once have made where they could not choose the id (psc)."""
    removed = []
    for each in vertex.endpoints(target.endpoint):
        is_double = endpoint is None or each.id != endpoint.id
        if is_double and is_ours(each) and not each.deployed and LABEL not in each.labels:
            removed += _deleted(vertex, each, report)
    return removed


def _emptied(target: Target, vertex: Vertex, endpoint: Endpoint, report: Report) -> list[str]:
    ours = [each for each in vertex.again(endpoint).deployed if each.model == target.model]
    # Those without traffic first: the last one may go with all of it, and is asked until then.
    for each in sorted(ours, key=lambda one: one.traffic):
        report(f"undeploy {each.version}")
        undeploy(vertex, endpoint, each.id)
    return [f"deployed model {each.version}" for each in ours]


def _goes(target: Target, endpoint: Endpoint) -> bool:
    return is_ours(endpoint) and all(each.model == target.model for each in endpoint.deployed)


def _in_order(target: Target, versions: list[Version]) -> list[Version]:
    """Ours; the default one last, since deleting it makes another one the default."""
    ours = [each for each in versions if key_of(target, each)]
    return sorted(ours, key=lambda each: ("default" in each.aliases, int(each.number)))
