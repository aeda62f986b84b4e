"""What serves in each region, and where that is not what it ought to be: another digest, a stranger, no endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cpr_kit.deploy.facts import ARTIFACTS, IMAGE, LIVE, is_ours, made_for, short
from cpr_kit.deploy.resources import Deployed, Endpoint, Version
from cpr_kit.deploy.target import Target
from cpr_kit.errors import CprError


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a version is made of: its image's digest and its artifacts', as labels have them.

    None is not known. Empty are artifacts where there are none, and an image that is in no registry yet.
    """

    image: str | None = None
    artifacts: str | None = None

    @classmethod
    def of(cls, image: str | None, artifacts: str | None) -> Contents:
        """From whole digests."""
        return cls(image=None if image is None else short(image), artifacts=short(artifacts))


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A deployed model, and what its version's labels tell. `is_ours` is false for what cpr up has not uploaded."""

    id: str
    version: str
    aliases: tuple[str, ...]
    contents: Contents
    traffic: int
    available: int | None
    min_replicas: int
    max_replicas: int
    machine_type: str
    created: datetime | None
    is_ours: bool


@dataclass(frozen=True, kw_only=True)
class RegionStatus:
    """One region. `endpoint` is the resource's name, empty where there is none; `error` why it could not be asked."""

    region: str
    display_name: str
    endpoint: str = ""
    kind: str = ""
    is_ours: bool = False
    created: datetime | None = None
    serving: tuple[Serving, ...] = ()
    idle: tuple[str, ...] = ()
    """Versions of the model that are deployed nowhere, with their aliases."""
    drift: tuple[str, ...] = ()
    error: str = ""
    exit_code: int = 0
    """Of that error: 3 where something lacks here, 4 where Vertex AI refused."""

    @property
    def live(self) -> Serving | None:
        """What `cpr up` has made live, else what has the most traffic."""
        return max(self.serving, key=lambda each: (LIVE in each.aliases, each.traffic), default=None)


@dataclass(frozen=True, kw_only=True)
class Status:
    """`warnings` are about the folder itself: its code is not what its image was built from."""

    regions: tuple[RegionStatus, ...]
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Every region was asked, nothing drifts, and the folder's image is of the folder's code."""
        return not (self.warnings or any(each.error or each.drift for each in self.regions))

    def to_json(self) -> dict[str, Any]:
        regions = [_value(each) for each in self.regions]
        return {"passed": self.passed, "warnings": list(self.warnings), "regions": regions}


def of_region(target: Target, endpoint: Endpoint | None, versions: Sequence[Version]) -> RegionStatus:
    """As it is, without a look at anything else."""
    known = {str(version): version for version in versions}
    if endpoint is None:
        return RegionStatus(region=target.region, display_name=target.endpoint, idle=tuple(_idle(versions, ())))
    serving = tuple(_serving(each, known.get(each.version)) for each in endpoint.deployed)
    return RegionStatus(
        region=target.region,
        display_name=endpoint.display_name,
        endpoint=endpoint.name,
        kind=endpoint.kind,
        is_ours=is_ours(endpoint),
        created=endpoint.created,
        serving=serving,
        idle=tuple(_idle(versions, serving)),
    )


def unknown(target: Target, error: CprError) -> RegionStatus:
    """Of a region that could not be asked."""
    return RegionStatus(region=target.region, display_name=target.endpoint, error=str(error), exit_code=error.exit_code)


def compared(
    regions: Sequence[RegionStatus], targets: Mapping[str, Target], folder: Mapping[str, Contents]
) -> tuple[RegionStatus, ...]:
    """With what drifts: from cpr.toml and the folder (by region, where it was looked at), and between the regions."""
    return tuple(
        replace(
            each,
            drift=(
                *_from_target(each, targets[each.region]),
                *_from_folder(each, folder.get(each.region)),
                *_from_others(each, regions),
            ),
        )
        for each in regions
    )


def _serving(deployed: Deployed, version: Version | None) -> Serving:
    labels = version.labels if version else {}
    ours = version is not None and made_for(version) is not None
    return Serving(
        id=deployed.id,
        version=deployed.version,
        aliases=version.aliases if version else (),
        contents=Contents(image=labels.get(IMAGE), artifacts=labels.get(ARTIFACTS, "" if ours else None)),
        traffic=deployed.traffic,
        available=deployed.available_replicas,
        min_replicas=deployed.scale.min_replicas,
        max_replicas=deployed.scale.max_replicas,
        machine_type=deployed.scale.machine_type,
        created=deployed.created,
        is_ours=ours,
    )


def _idle(versions: Sequence[Version], serving: Sequence[Serving]) -> Iterator[str]:
    deployed = {each.version for each in serving}
    for version in versions:
        if str(version) not in deployed:
            aliases = [alias for alias in version.aliases if alias != "default"]
            yield f"{version} ({', '.join(aliases)})" if aliases else str(version)


def _from_target(status: RegionStatus, target: Target) -> Iterator[str]:
    if status.error:
        return
    if not status.endpoint:
        yield f'there is no endpoint "{target.endpoint}"'
        return
    if status.kind != target.kind:
        yield f"the endpoint's kind is {status.kind}, in cpr.toml {target.kind}"
    if not status.serving:
        yield "nothing is deployed to the endpoint"
    for each in status.serving:
        if not each.is_ours:
            yield f"{each.version} (deployed model {each.id}, {each.traffic} % of the traffic) is not of cpr up"
        elif each.available is not None and each.available < each.min_replicas:
            yield f"{each.version} has {each.available} of at least {each.min_replicas} replicas"


def _from_folder(status: RegionStatus, wanted: Contents | None) -> Iterator[str]:
    live = status.live
    if wanted is None or live is None or not live.is_ours:
        return
    for what, there, here in _pairs(live.contents, wanted):
        yield f"{live.version} has another {what} than this folder: {there} there, {here} here"


def _from_others(status: RegionStatus, regions: Sequence[RegionStatus]) -> Iterator[str]:
    """Against the first region that has something of ours live."""
    first = next((each for each in regions if each.live and each.live.is_ours), None)
    live = status.live
    if first is None or first is status or first.live is None or live is None or not live.is_ours:
        return
    for what, here, there in _pairs(live.contents, first.live.contents):
        yield f"{live.version} has another {what} than {first.live.version} in {first.region}: {here}, there {there}"


def _pairs(one: Contents, other: Contents) -> Iterator[tuple[str, str, str]]:
    """What is known of both and differs, in words."""
    if one.image and other.image is not None and one.image != other.image:
        yield "image", f"sha256:{one.image[:12]}", f"sha256:{other.image[:12]}" if other.image else "one not yet pushed"
    if one.artifacts is not None and other.artifacts is not None and one.artifacts != other.artifacts:
        yield "set of artifacts", one.artifacts[:12] or "none", other.artifacts[:12] or "none"


def _value(status: RegionStatus) -> dict[str, Any]:
    serving = [
        {**vars(each), "contents": vars(each.contents), "created": _time(each.created)} for each in status.serving
    ]
    return {**vars(status), "created": _time(status.created), "serving": serving}


def _time(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
