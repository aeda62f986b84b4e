"""Removing what `up` has made, and nothing else."""

from __future__ import annotations

from cpr_kit.deploy import artifacts, lease
from cpr_kit.deploy.apply import Outcome, undeploy
from cpr_kit.deploy.calls import Report, silent
from cpr_kit.deploy.facts import KEY, is_ours
from cpr_kit.deploy.plan import RegionPlan, Step
from cpr_kit.deploy.resources import Endpoint, Version
from cpr_kit.deploy.target import Target
from cpr_kit.deploy.vertex import Vertex


def plan_down(target: Target, vertex: Vertex) -> RegionPlan:
    """What `down` would remove. The image stays in its repository: others may use it."""
    endpoint, versions = vertex.endpoint(target.endpoint), vertex.versions(target.model)
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
        goes = _goes(target, endpoint)
        steps.append(
            Step(
                action="delete" if goes else "keep",
                what="endpoint",
                name=endpoint.id,
                reason="" if goes else "it was made by others, or serves another model",
            )
        )
    for version in versions:
        ours = KEY in version.labels
        steps.append(
            Step(
                action="delete" if ours else "keep",
                what="model version",
                name=str(version),
                reason="" if ours else "it was not uploaded by cpr",
            )
        )
    return RegionPlan(project=target.project, region=target.region, endpoint=target.endpoint, steps=tuple(steps))


def down(target: Target, vertex: Vertex, *, take_lease: bool = False, report: Report = silent) -> Outcome:
    """Undeploy the model, delete the endpoint and the versions that carry this kit's labels. Safe to run again."""
    endpoint = vertex.endpoint(target.endpoint)
    changed = False
    if endpoint is not None:
        with lease.held(vertex, endpoint, report=report, take=take_lease):
            vertex.settle(endpoint.name)
            changed = _emptied(target, vertex, endpoint, report)
        now = vertex.again(endpoint)
        if _goes(target, now) and not now.deployed:
            report(f"delete endpoint {endpoint.id}")
            vertex.delete_endpoint(endpoint)
            changed = True
            endpoint = None
    vertex.settle(f"{vertex.parent}/models/{target.model}")
    for version in _in_order(vertex.versions(target.model)):
        report(f"delete {version}")
        vertex.delete_version(version)
        changed = True
    if target.artifacts and target.staging:
        artifacts.remove_all(f"{target.staging.rstrip('/')}/{target.endpoint}")
    return Outcome(
        region=target.region, changed=changed, version="", endpoint=endpoint.name if endpoint is not None else ""
    )


def _emptied(target: Target, vertex: Vertex, endpoint: Endpoint, report: Report) -> bool:
    ours = [each for each in vertex.again(endpoint).deployed if each.model == target.model]
    # Those without traffic first: the last one may go with all of it, and is asked until then.
    for each in sorted(ours, key=lambda one: one.traffic):
        report(f"undeploy {each.version}")
        undeploy(vertex, endpoint, each.id)
    return bool(ours)


def _goes(target: Target, endpoint: Endpoint) -> bool:
    return is_ours(endpoint) and all(each.model == target.model for each in endpoint.deployed)


def _in_order(versions: list[Version]) -> list[Version]:
    """Ours; the default one last, since deleting it makes another one the default."""
    ours = [each for each in versions if KEY in each.labels]
    return sorted(ours, key=lambda each: ("default" in each.aliases, int(each.number)))
