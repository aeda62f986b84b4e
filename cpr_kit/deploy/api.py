"""From image to endpoint, for a notebook or a step of a pipeline: plan, up, rollback, down, status, logs.

    from cpr_kit.deploy import api

    print(render.plan(api.plan("iris")))
    api.up("iris", canary=10, progress=print)

A project is its folder, or a Config that was read from one. Where it has several regions, all are worked on at once;
`progress` gets a region and a line. Everything is found again by its name, so a call that was cut off is made again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from cpr_kit import serving_spec
from cpr_kit.config import Config
from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy import apply, many
from cpr_kit.deploy import down as removal
from cpr_kit.deploy import rollback as returning
from cpr_kit.deploy import status as statuses
from cpr_kit.deploy.apply import Outcome
from cpr_kit.deploy.artifacts import staged as artifacts
from cpr_kit.deploy.images import OneImage
from cpr_kit.deploy.many import Progress, RegionsFailed, Results, Stop
from cpr_kit.deploy.network import NetworkStep
from cpr_kit.deploy.network import steps as network_steps
from cpr_kit.deploy.plan import RegionPlan
from cpr_kit.deploy.plan_file import Plan, check_holds
from cpr_kit.deploy.project import from_config, rules
from cpr_kit.deploy.registry.mirror import mirror
from cpr_kit.deploy.registry.push import push
from cpr_kit.deploy.status import Contents, RegionStatus, Status
from cpr_kit.deploy.target import Target
from cpr_kit.deploy.vertex import logs as logging
from cpr_kit.deploy.vertex.calls import Caller, Report
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.deploy.vertex.logs import Entry, Query
from cpr_kit.deploy.vertex.pace import Pace, PacedVertex
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Engine
from cpr_kit.errors import ConfigError, CprError, DeclinedError, UsageError
from cpr_kit.source_state import SourceState, difference

Project = Config | str | PathLike[str]
"""A project's folder, or what was read from it."""

__all__ = [
    "Entry",
    "Outcome",
    "Plan",
    "Project",
    "RegionsFailed",
    "Results",
    "Status",
    "down",
    "logs",
    "mirror",
    "network",
    "plan",
    "plan_down",
    "push",
    "rollback",
    "status",
    "up",
]


def plan(
    project: Project,
    *,
    regions: Sequence[str] = (),
    canary: int | None = None,
    spec: ContainerSpec | None = None,
    engine: Engine | None = None,
    source: SourceState | None = None,
    progress: Progress = many.silent,
) -> Plan:
    """What `up` would do, from what exists now. `canary` is the new version's percent at first, as in `up`.

    `spec` is how the image is to be started; without it that is what cpr.toml and the image say. With `source`, the
    folder's code now (`cpr_kit.build.state.read`), a warning says where the image was built from other code. Raises
    ConfigError before any call, LackingError, DeployError, and RegionsFailed for some of several regions.
    """
    work = _Work.of(project, regions, spec=spec, engine=engine, source=source)
    share = work.canary(canary)
    return Plan(regions=tuple(work.planned(share, progress).checked().done.values()), canary=share)


def up(
    project: Project,
    *,
    plan: Plan | None = None,
    exact: bool = True,
    regions: Sequence[str] = (),
    canary: int | None = None,
    spec: ContainerSpec | None = None,
    engine: Engine | None = None,
    take_lease: bool = False,
    progress: Progress = many.silent,
) -> Results[Outcome]:
    """Make each region what cpr.toml says: exactly what `plan` shows, and nothing where nothing is to do.

    With a `plan` that was made before, nothing is done anywhere unless it still holds. Where it need not be done
    `exact`ly, and where there is none, what has changed since is told and the plan made again. A region that another
    run is at work in fails with who that is. One region's failure leaves the others to finish; then RegionsFailed has
    what came of each, and the same call mends what failed.
    """
    if plan is not None:
        regions = _same_regions(plan, regions)
        canary = _same_canary(plan, canary)
    work = _Work.of(project, regions, spec=spec, engine=engine)
    share = work.canary(canary)
    planned = work.planned(share, progress, free=not take_lease)
    exact = exact and plan is not None
    if plan is not None and exact:
        check_holds(plan, tuple(planned.done.values()))
    lacking = {region for region, each in planned.done.items() if any(step.action == "push" for step in each.steps)}
    failed = {**planned.failed, **work.images.spread(planned.done, lacking, progress)}
    pace = Pace()

    def shown(region: str) -> RegionPlan:
        return (plan and plan.of(region)) or planned.done[region]

    def deploy(target: Target, report: Report, stop: Stop) -> Outcome:
        # Where the image was only now pushed, what exists is no longer what it was.
        held = None if target.region in lacking else shown(target.region)
        vertex = PacedVertex(target, pace=pace, stop=stop, report=report)
        return apply.up(
            target,
            work.images.engine,
            vertex,
            planned=held,
            exact=exact,
            canary_share=share,
            take_lease=take_lease,
            report=report,
        )

    results = many.each([each for each in work.targets if each.region not in failed], deploy, progress)
    return Results(done=results.done, failed={**failed, **results.failed}).checked()


def rollback(
    project: Project, *, regions: Sequence[str] = (), take_lease: bool = False, progress: Progress = many.silent
) -> Results[Outcome]:
    """All traffic back to the version that was live before, in each region."""
    pace = Pace()

    def back(target: Target, report: Report, stop: Stop) -> Outcome:
        vertex = PacedVertex(target, pace=pace, stop=stop, report=report)
        return returning.rollback(target, vertex, take_lease=take_lease, report=report)

    return many.each(_targets(project, regions), back, progress).checked()


def plan_down(project: Project, *, regions: Sequence[str] = ()) -> Plan:
    """What `down` would remove."""

    def look(target: Target, report: Report, _stop: Stop) -> RegionPlan:
        return removal.plan_down(target, _vertex(target, report))

    return Plan(regions=tuple(many.each(_targets(project, regions), look).checked().done.values()))


def down(
    project: Project, *, regions: Sequence[str] = (), take_lease: bool = False, progress: Progress = many.silent
) -> Results[Outcome]:
    """Remove what `up` has made in each region, and nothing else."""
    pace = Pace()

    def remove(target: Target, report: Report, stop: Stop) -> Outcome:
        vertex = PacedVertex(target, pace=pace, stop=stop, report=report)
        return removal.down(target, vertex, take_lease=take_lease, report=report)

    return many.each(_targets(project, regions), remove, progress).checked()


def status(
    project: Project,
    *,
    regions: Sequence[str] = (),
    folder: bool = True,
    engine: Engine | None = None,
    source: SourceState | None = None,
) -> Status:
    """What serves in each region, and what drifts: between the regions, and from this `folder` unless told not to.

    A region that cannot be asked has its `error` there; a folder that cannot be compared is a drift. With `source`, as
    in `plan`, a warning says where the folder's image was built from other code.
    """
    wanted = _targets(project, regions)

    def look(target: Target, report: Report, _stop: Stop) -> RegionStatus:
        vertex = _vertex(target, report)
        return statuses.of_region(target, vertex.endpoint(target.endpoint), vertex.versions(target.model))

    results = many.each(wanted, look)
    found = [
        results.done.get(target.region) or statuses.unknown(target, results.failed[target.region]) for target in wanted
    ]
    contents, edited, why = _contents(project, regions, engine, source) if folder else ({}, (), "")
    compared = statuses.compared(found, {target.region: target for target in wanted}, contents)
    if why:
        compared = tuple(
            replace(each, drift=(*each.drift, f"not compared with this folder: {why}")) for each in compared
        )
    return Status(regions=compared, warnings=edited)


def _contents(
    project: Project, regions: Sequence[str], engine: Engine | None, source: SourceState | None
) -> tuple[dict[str, Contents], tuple[str, ...], str]:
    """What the folder would deploy now, where its image is not of its code, or why that cannot be told."""
    try:
        work = _Work.of(project, regions, engine=engine, source=source)
        return work.contents(), work.edited, ""
    except CprError as error:
        return {}, (), str(error)


def logs(
    project: Project,
    *,
    regions: Sequence[str] = (),
    since: str = "10m",
    deployed_model: str | None = None,
    severity: str | None = None,
    follow: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[Entry]:
    """What the endpoint's containers wrote, the oldest entry first; with `follow`, what they write until `stop`.

    `since` is such as "90s", "10m", "2h", "1d", or a time as 2026-01-31T12:00:00Z. Raises UsageError, LackingError,
    DeployError.
    """
    query = Query(since=logging.ago(since), deployed_model=deployed_model, severity=severity and severity.upper())
    targets = _targets(project, regions)

    def find(target: Target, report: Report, _stop: Stop) -> list[str]:
        found = _vertex(target, report).endpoint(target.endpoint)
        return [found.id] if found else []

    found = many.each(targets, find).checked().done
    if not any(found.values()):
        where = ", ".join(found)
        raise DeclinedError(
            f'there is no endpoint "{targets[0].endpoint}" in {where}',
            "cpr up makes it; cpr status shows what there is",
        )
    log = logging.Log(targets[0].project, found, Caller())
    return log.follow(query, stop) if follow else log.entries(query)


def network(project: Project, *, regions: Sequence[str] = ()) -> tuple[NetworkStep, ...]:
    """What is to be done in the network that a private endpoint is reached from, each step once; none for others."""
    found = [step for target in _targets(project, regions) for step in network_steps(target)]
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class _Work:
    """A project that was read: what each region is to be, and the image that all of them get."""

    config: Config
    targets: tuple[Target, ...]
    images: OneImage
    warnings: tuple[str, ...]
    edited: tuple[str, ...] = ()
    """That the folder's code is not what its image was built from."""

    @classmethod
    def of(
        cls,
        project: Project,
        regions: Sequence[str],
        *,
        spec: ContainerSpec | None = None,
        engine: Engine | None = None,
        source: SourceState | None = None,
    ) -> _Work:
        config = _read(project)
        engine = engine or choose().engine
        known = spec or _spec(config, engine)
        targets = from_config.targets(config, known, regions=regions)
        warnings = () if spec else tuple(_assumed(config, engine))
        images = OneImage(engine, targets, known.image_uri)
        built = images.built() if source else None
        line = difference(source, built) if source and built else ""
        return cls(config, targets, images, warnings, (line,) if line else ())

    def canary(self, given: int | None) -> int:
        share = self.config.deploy.canary if given is None else given
        for target in self.targets if share else ():
            rules.check_canary(target, share)
        return share

    def planned(self, share: int, progress: Progress, *, free: bool = False) -> Results[RegionPlan]:
        def look(target: Target, report: Report, _stop: Stop) -> RegionPlan:
            found = apply.plan(target, self.images.engine, _vertex(target, report), canary_share=share, free=free)
            own = (*rules.check(target), *from_config.warnings(self.config, target), *self.warnings)
            return replace(found, warnings=(*self.edited, *found.warnings, *own))

        return many.each(self.targets, look, progress)

    def contents(self) -> dict[str, Contents]:
        """What each region's live version would be made of, had it been deployed from this folder now."""
        found = artifacts.digest(self.targets[0].artifacts)
        return {region: Contents.of(image, found) for region, image in self.images.digests()}


def _read(project: Project) -> Config:
    return project if isinstance(project, Config) else Config.read(Path(project).resolve())


def _named(config: Config) -> str:
    if not config.image.name:
        raise ConfigError(
            "[image] name (CPR_IMAGE_NAME) is missing; it is where the image is pushed to: "
            'name = "REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME"'
        )
    return config.image.name


def _spec(config: Config, engine: Engine) -> ContainerSpec:
    _named(config)
    return serving_spec.known(config, engine)


def _assumed(config: Config, engine: Engine) -> Iterator[str]:
    if not serving_spec.has_own_server(config) or config.image.names_ports or engine.image(_named(config)):
        return
    yield (
        f"this machine has no image {config.image.name}, so that the port it EXPOSEs is not known here; port "
        f"{config.image.ports[0]} is taken: say which it is in [image] ports"
    )


def _targets(project: Project, regions: Sequence[str]) -> tuple[Target, ...]:
    """For what is asked about or taken away: neither the model's files nor the requests have to be here."""
    config = _read(project)
    return from_config.targets(config, serving_spec.of(config, _named(config)), regions=regions, files=False)


def _vertex(target: Target, report: Report) -> Vertex:
    return Vertex(target.project, target.region, report=report)


def _same_regions(plan: Plan, given: Sequence[str]) -> tuple[str, ...]:
    planned = tuple(each.region for each in plan.regions)
    if given and set(given) != set(planned):
        raise UsageError(f"the plan is for {', '.join(planned)}, and not for {', '.join(given)}; make one for these")
    return planned


def _same_canary(plan: Plan, given: int | None) -> int:
    if given not in (None, plan.canary):
        raise UsageError(f"the plan has a canary of {plan.canary} %, and not of {given} %; make one for that")
    return plan.canary
