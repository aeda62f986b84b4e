"""Changes at an endpoint and of its model's versions that `up`, `rollback` and `down` share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from cpr_kit.deploy import facts as known
from cpr_kit.deploy import lease, traffic
from cpr_kit.deploy.facts import LIVE, PREVIOUS, Facts
from cpr_kit.deploy.resources import Deployed, Endpoint, Version
from cpr_kit.deploy.target import Target
from cpr_kit.deploy.traffic import ALL
from cpr_kit.deploy.vertex import messages
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import DeployError

_T = TypeVar("_T")
_TRIES = 8


def settle_aliases(vertex: Vertex, facts: Facts, version: Version) -> None:
    """`live` on this version, `previous` on the one that had it."""
    now = facts.by_number.get(version.number, version)
    if LIVE in now.aliases and not known.candidacy(now):
        return
    before = next((each for each in facts.versions if LIVE in each.aliases and each.number != version.number), None)
    if before is not None:
        # First, and by one call each: a run that is killed in between finds `live` where it was, and does it again.
        vertex.alias(before, [PREVIOUS])
    vertex.alias(version, [LIVE, *(f"-{name}" for name in known.candidacy(now))])


def changed(vertex: Vertex, endpoint: Endpoint, write: Callable[[Endpoint], _T]) -> _T:
    """`write` with the endpoint as it is now, again while others change it in between (ABORTED, by its etag)."""
    from google.api_core import exceptions

    for _ in range(_TRIES):
        try:
            return write(vertex.again(endpoint))
        except exceptions.Aborted:
            continue
    raise DeployError(f"endpoint {endpoint.display_name} is changed all the time by others", "run it again")


def endpoint_fields(target: Target, endpoint: Endpoint, names: Collection[str]) -> dict[str, Any]:
    """What UpdateEndpoint has to write for these of `facts.endpoint_changes`; others' labels stay."""
    fields: dict[str, Any] = {}
    if "labels" in names:
        gone = known.gone_labels(target, endpoint)
        fields["labels"] = {**{k: v for k, v in endpoint.labels.items() if k not in gone}, **target.labels}
        if known.may_describe(endpoint):
            fields["description"] = known.label_mark(target)
    if "predict_request_response_logging_config" in names:
        fields["predict_request_response_logging_config"] = messages.request_logging(target)
    return fields


def end_unfinished(
    target: Target, vertex: Vertex, facts: Facts, endpoint: Endpoint, say: Callable[[str], None]
) -> bool:
    """Undeploy and delete what is neither live nor wanted, once the live version has its traffic. Whether it did."""
    live = known.live(target, facts)
    begun = known.unfinished(target, facts)
    if not begun or not known.deployed_of(facts, live):
        return False  # nothing of ours serves: what was begun goes when there is something in its place
    for version in begun:
        for each in known.deployed_of(facts, version):
            say(f"undeploy {version}, which a run that did not end has left with {each.traffic} % of the traffic")
            undeploy(vertex, endpoint, each.id, live)
        say(f"delete {version}")
        vertex.delete_version(version)
    return True


def undeploy(vertex: Vertex, endpoint: Endpoint, deployed_id: str, keeper: Version | None = None) -> None:
    """Also one that still has traffic: its share goes to those that have some, else to `keeper`, else to nobody."""
    vertex.settle(endpoint.name)
    now = vertex.again(endpoint)
    found = next((each for each in now.deployed if each.id == deployed_id), None)
    if found is None:
        return
    if found.traffic and len(now.deployed) > 1:
        changed(vertex, endpoint, lambda one: vertex.set_traffic(one, _without(one, found, keeper)))
    vertex.undeploy(endpoint, deployed_id)


def _without(endpoint: Endpoint, gone: Deployed, keeper: Version | None) -> dict[str, int]:
    """A deployed model of others that has no traffic never gets any."""
    left = {each.id: each.traffic for each in endpoint.deployed if each.traffic and each.id != gone.id}
    if left:
        return traffic.with_share(left, gone.id, 0)
    return {each.id: ALL for each in endpoint.deployed if keeper and each.version == str(keeper)}


def give_back(vertex: Vertex, endpoint: Endpoint, old: Mapping[str, int]) -> None:
    if old:
        whole = traffic.with_share(old, "", 0)
        changed(vertex, endpoint, lambda one: vertex.set_traffic(one, whole))


def delete_if_empty(vertex: Vertex, endpoint: Endpoint) -> None:
    """And if no other run has begun to use it."""
    vertex.settle(endpoint.name)
    now = vertex.again(endpoint)
    if not now.deployed and lease.LABEL not in now.labels:
        vertex.delete_endpoint(endpoint)


def delete_candidate(vertex: Vertex, version: Version) -> None:
    """One that never went live."""
    now = next((each for each in vertex.versions(version.model) if each.number == version.number), None)
    if now is not None and LIVE not in now.aliases:
        vertex.delete_version(now)
