"""Plans, statuses and log entries in words: for a terminal, and for a notebook's `print`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

from cpr_kit.deploy.network import NetworkStep, lines
from cpr_kit.deploy.plan import RegionPlan, Step
from cpr_kit.deploy.plan_file import Plan
from cpr_kit.deploy.status import RegionStatus, Serving, Status
from cpr_kit.deploy.vertex.logs import Entry

SIGNS = {
    "keep": "=",
    "push": "+",
    "stage": "+",
    "create": "+",
    "upload": "+",
    "deploy": "+",
    "change": "~",
    "shift": "~",
    "undeploy": "-",
    "delete": "-",
}
"""What a step does to what exists: + adds, ~ changes, - removes, = keeps."""

_ADDS, _CHANGES, _REMOVES = "+~-"
_DIGEST = "@sha256:"
_SHOWN = 12
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
_COLUMNS = ("region", "endpoint", "kind", "version", "traffic", "replicas", "machine", "image", "artifacts", "age")


def plan(plan: Plan) -> str:
    """One line a step, then what it comes to, then the warnings."""
    lines = [line for region in plan.regions for line in _region(region)]
    lines.append(total(plan))
    lines += [f"warning: {warning}" for warning in plan.warnings]
    return "\n".join(lines)


def network(steps: Sequence[NetworkStep]) -> str:
    return "\n".join(lines(steps))


def total(plan: Plan) -> str:
    """What a plan comes to.

    >>> total(Plan(regions=()))
    'nothing to do'
    """
    steps = [step for region in plan.regions for step in region.steps]
    counts = {sign: sum(SIGNS[step.action] == sign for step in steps) for sign in "+~-="}
    if not plan.changes:
        return f"nothing to do, {counts['=']} kept" if steps else "nothing to do"
    words = ((counts[_ADDS], "to add"), (counts[_CHANGES], "to change"), (counts[_REMOVES], "to remove"))
    return ", ".join([f"{count} {word}" for count, word in words] + [f"{counts['=']} kept"])


def _region(region: RegionPlan) -> Iterator[str]:
    yield f"{region.region}, project {region.project}, endpoint {region.endpoint}"
    actions = max((len(step.action) for step in region.steps), default=0)
    whats = max((len(step.what) for step in region.steps), default=0)
    for step in region.steps:
        yield f"  {SIGNS[step.action]} {step.action:<{actions}}  {step.what:<{whats}}  {_name(step.name)}{_why(step)}"


def _why(step: Step) -> str:
    parts = [part for part in (step.reason, step.takes and f"takes {step.takes}") if part]
    return f": {'; '.join(parts)}" if parts else ""


def _name(name: str) -> str:
    """With as much of a digest as tells it from others."""
    head, at, digest = name.partition(_DIGEST)
    return f"{head}{at}{digest[:_SHOWN]}"


def status(status: Status, now: datetime | None = None) -> str:
    """A table of what is deployed, then what serves nowhere, then what drifts."""
    now = now or datetime.now(timezone.utc)
    rows = [row for region in status.regions for row in _rows(region, now)]
    lines = list(table([_COLUMNS, *rows]))
    for region in status.regions:
        lines += [f"{region.region}: deployed nowhere: {', '.join(region.idle)}"] if region.idle else []
    for region in status.regions:
        lines += [f"{region.region}: could not be asked: {region.error}"] if region.error else []
        lines += [f"{region.region}: drift: {line}" for line in region.drift]
    lines += [f"warning: {warning}" for warning in status.warnings]
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first row is the head. Columns as wide as what is in them."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _rows(region: RegionStatus, now: datetime) -> Iterator[tuple[str, ...]]:
    if region.error or not region.endpoint:
        yield (region.region, region.display_name, "?" if region.error else "none", *["-"] * (len(_COLUMNS) - 3))
    elif not region.serving:
        age = _age(region.created, now)
        yield (region.region, region.display_name, region.kind, *["-"] * (len(_COLUMNS) - 4), age)
    for each in region.serving:
        yield (region.region, region.display_name, region.kind, *_serving(each, now))


def _serving(each: Serving, now: datetime) -> tuple[str, ...]:
    aliases = [alias for alias in each.aliases if alias != "default"]
    has = "?" if each.available is None else str(each.available)
    wanted = (
        str(each.min_replicas) if each.min_replicas == each.max_replicas else f"{each.min_replicas}-{each.max_replicas}"
    )
    artifacts = "?" if each.contents.artifacts is None else each.contents.artifacts[:_SHOWN] or "none"
    return (
        f"{each.version} ({', '.join(aliases)})" if aliases else each.version,
        f"{each.traffic} %",
        f"{has} of {wanted}",
        each.machine_type,
        f"sha256:{each.contents.image[:_SHOWN]}" if each.contents.image else "?",
        artifacts,
        _age(each.created, now),
    )


def _age(created: datetime | None, now: datetime) -> str:
    """In its largest whole unit.

    >>> _age(datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 1, 1, 5, 59, tzinfo=timezone.utc))
    '5 h'
    """
    if created is None:
        return "?"
    seconds = max(0, int((now - created).total_seconds()))
    return next((f"{seconds // size} {unit}" for size, unit in _UNITS if seconds >= size), f"{seconds} s")


def entry(entry: Entry, *, with_region: bool = False) -> str:
    """`time severity replica message`, each line of the message on its own."""
    where = "/".join(part for part in (entry.deployed_model, entry.replica) if part) or "-"
    region = f"{entry.region} " if with_region else ""
    time = entry.time.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f"{time} {entry.severity:<8} {region}{where} {entry.message}{_fields(entry)}"


def _fields(entry: Entry) -> str:
    told = [f"{name}={value}" for name, value in entry.fields.items() if isinstance(value, (str, int, float))]
    return f"  {' '.join(told)}" if told else ""
