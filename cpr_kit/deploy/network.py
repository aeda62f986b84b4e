"""What has to be done in a network before, and after, a private endpoint is deployed: commands, in their order.

The kit runs none of them: a network often belongs to others. Pure. The steps are those of "Use private endpoints"
(private services access) and "Use Private Service Connect"; the permissions are those that the reference of each
method names (Compute Engine, Service Networking). Google's guides name the network administrator's role for all of it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cpr_kit.deploy.resources import Endpoint
from cpr_kit.deploy.target import Target

When = Literal["once per network", "once per endpoint, after the deployment"]

_NETWORK = re.compile(r"projects/(?P<project>[^/]+)/global/networks/(?P<name>[^/]+)")
_RANGE = "vertex-ai-prediction-peering-range"
_SERVICE = "servicenetworking.googleapis.com"
_PREFIX = 16
ONCE: When = "once per network"
AFTER: When = "once per endpoint, after the deployment"


@dataclass(frozen=True, kw_only=True)
class NetworkStep:
    """One command. `variables` are names in it that whoever runs it sets first, each with what it is."""

    title: str
    command: str
    permissions: tuple[str, ...]
    when: When
    reason: str
    variables: tuple[tuple[str, str], ...] = ()


def steps(target: Target, endpoint: Endpoint | None = None, *, service_attachment: str = "") -> tuple[NetworkStep, ...]:
    """In the order in which they are done; none for endpoints that are public.

    `endpoint` is what was made of the target, as far as it was; `service_attachment` is known once something is
    deployed to it (PrivateEndpoints.service_attachment).
    """
    if target.kind == "psa":
        return tuple(_peering(target))
    if target.kind == "psc":
        return tuple(_forwarding(target, endpoint, service_attachment))
    return ()


def lines(found: Sequence[NetworkStep]) -> list[str]:
    """For a person's terminal."""
    shown: list[str] = []
    for number, step in enumerate(found, 1):
        shown += [f"{number}. {step.title} ({step.when})", f"   {step.reason}"]
        shown += [f"   {name} is {meaning}" for name, meaning in step.variables]
        shown += [f"   needs {', '.join(step.permissions)}", f"     {step.command}"]
    return shown


def _peering(target: Target) -> Iterator[NetworkStep]:
    """Private services access: the network is peered with Google's, where the endpoint gets its address."""
    match = _NETWORK.fullmatch(target.network or "")
    project, name = (match["project"], match["name"]) if match else (target.project, "${NETWORK}")
    variables = () if match else (("NETWORK", "the network that callers are in"),)
    of_project = f"--project={project}"
    yield NetworkStep(
        title="enable Service Networking",
        command=_shell("gcloud", "services", "enable", _SERVICE, of_project),
        permissions=("serviceusage.services.enable",),
        when=ONCE,
        reason=f"the peering is made by that API, in the project of the network ({project})",
    )
    yield NetworkStep(
        title="reserve addresses",
        command=_shell(
            *("gcloud", "compute", "addresses", "create", _RANGE, "--global", "--purpose=VPC_PEERING"),
            *(f"--prefix-length={_PREFIX}", f"--network={name}", of_project),
        ),
        permissions=("compute.globalAddresses.createInternal", "compute.networks.use"),
        when=ONCE,
        reason=f"deployed models take their addresses from a range of their own; /{_PREFIX} is what Vertex AI asks for",
        variables=variables,
    )
    yield NetworkStep(
        title="connect the network",
        command=_shell(
            *("gcloud", "services", "vpc-peerings", "connect", f"--service={_SERVICE}"),
            *(f"--ranges={_RANGE}", f"--network={name}", of_project),
        ),
        permissions=("servicenetworking.services.addPeering", "compute.networks.get", "compute.globalAddresses.list"),
        when=ONCE,
        reason=(
            "before the endpoint is made: it is made inside this peering. A network that is connected already is "
            "given the range with vpc-peerings update instead, beside those that it has"
        ),
        variables=variables,
    )


def _forwarding(target: Target, endpoint: Endpoint | None, attachment: str) -> Iterator[NetworkStep]:
    """Private Service Connect: each calling network gets an address that leads to the endpoint's attachment."""
    for project in target.project_allowlist or (target.project,):
        yield from _of_consumer(target, endpoint, attachment, project)


def _of_consumer(target: Target, endpoint: Endpoint | None, attachment: str, project: str) -> Iterator[NetworkStep]:
    match = _NETWORK.fullmatch(target.network or "")
    network = match["name"] if match else "${NETWORK}"
    where = (f"--region={target.region}", f"--project={project}")
    subnet = ("SUBNET", f"a subnet of the callers' network in {target.region}")
    address, rule = f"{target.endpoint}-address", f"{target.endpoint}-rule"
    yield NetworkStep(
        title=f"reserve an address in {project}",
        command=_shell("gcloud", "compute", "addresses", "create", address, "--subnet=${SUBNET}", *where),
        permissions=("compute.addresses.createInternal", "compute.subnetworks.use"),
        when=AFTER,
        reason="callers reach the endpoint at this address; it stays the same when the rule is made anew",
        variables=(subnet,),
    )
    variables: tuple[tuple[str, str], ...] = () if match else (("NETWORK", "the network that callers are in"),)
    if not attachment:
        variables += (("ATTACHMENT", f"shown by: {_describe(target, endpoint)}"),)
    yield NetworkStep(
        title=f"lead it to the endpoint, in {project}",
        command=_shell(
            *("gcloud", "compute", "forwarding-rules", "create", rule, f"--network={network}"),
            *(f"--address={address}", f"--target-service-attachment={attachment or '${ATTACHMENT}'}", *where),
        ),
        permissions=(
            *("compute.forwardingRules.create", "compute.forwardingRules.pscCreate", "compute.addresses.use"),
            *("compute.networks.use", "servicedirectory.namespaces.create", "servicedirectory.services.create"),
        ),
        when=AFTER,
        reason=(
            "the attachment is there once a model is deployed, takes rules of the allow-listed projects alone, and "
            "may vanish 10 minutes after the last model is undeployed"
        ),
        variables=variables,
    )
    yield NetworkStep(
        title=f"see the address, in {project}",
        command=_shell("gcloud", "compute", "forwarding-rules", "describe", rule, "--format=value(IPAddress)", *where),
        permissions=("compute.forwardingRules.get",),
        when=AFTER,
        reason="it is what callers name as the endpoint's address (endpoint_override in the SDK)",
    )


def _describe(target: Target, endpoint: Endpoint | None) -> str:
    """The command that shows the attachment. Endpoints of this kind have no id of ours, so it may not be known yet."""
    name = endpoint.id if endpoint is not None else "${ENDPOINT}"
    form = "--format=value(deployedModels[0].privateEndpoints.serviceAttachment)"
    where = (f"--region={target.region}", f"--project={target.project}")
    return _shell("gcloud", "ai", "endpoints", "describe", name, form, *where)


def _shell(*words: str) -> str:
    return " ".join(f'"{each}"' if "${" in each else shlex.quote(each) for each in words)
