"""An endpoint of Vertex AI as a TARGET: by its resource name, by name and region, or as a project's cpr.toml has it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cpr_kit.cli.target import is_url
from cpr_kit.cli.terminal import note
from cpr_kit.config import Config
from cpr_kit.deploy_config import PROJECT
from cpr_kit.errors import DeclinedError, UsageError

if TYPE_CHECKING:
    from cpr_kit.deploy.predict.asking import Asker

_GRACE_S = 5.0
_RESOURCE = re.compile(r"projects/([^/]+)/locations/([^/]+)/endpoints/([^/]+)")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line said. `asked` is --endpoint: TARGET is one, or its [deploy] names one."""

    asked: bool = False
    region: str | None = None
    project: str | None = None
    override: str | None = None


@dataclass(frozen=True)
class Place:
    """Where an endpoint is; `name` is its id or its display name."""

    project: str
    region: str
    name: str


def is_meant(target: str, options: Options) -> bool:
    """Whether TARGET is an endpoint and not what its name else says. Raises UsageError for half of a resource name."""
    if target.startswith("projects/") and not Path(target).exists():
        if _RESOURCE.fullmatch(target):
            return True
        form = "projects/PROJECT/locations/REGION/endpoints/ENDPOINT"
        raise UsageError(f'"{target}" is no endpoint\'s name; write {form}')
    meant = options.asked or any((options.region, options.project, options.override))
    if meant and is_url(target):
        raise UsageError(f"{target} is a URL; --endpoint, --region, --project and --override are for endpoints")
    return meant


def place(target: str, options: Options) -> Place:
    """Raises UsageError where something is lacking or said twice, ConfigError for a region that is none."""
    from cpr_kit.deploy.project import regions

    if match := _RESOURCE.fullmatch(target):
        found = Place(*match.groups())
        for given, named in ((options.project, found.project), (options.region, found.region)):
            if given and given != named:
                raise UsageError(f'"{target}" names {named}, and the command line {given}; leave one of them out')
    elif Path(target).is_dir():
        found = _of_folder(Path(target), options)
    else:
        found = _named(target, options)
    regions.check(found.region)
    return found


def _of_folder(folder: Path, options: Options) -> Place:
    """[deploy] of its cpr.toml, in the first of its regions unless one is named."""
    deploy = Config.read(folder.resolve()).deploy
    project = options.project or deploy.project
    region = options.region or next(iter(deploy.regions), None)
    if not (project and region and deploy.endpoint):
        keys = {"project": project, "regions": region, "endpoint": deploy.endpoint}
        lacking = ", ".join(key for key, value in keys.items() if not value)
        raise UsageError(f"[deploy] in {folder / 'cpr.toml'} lacks what tells the endpoint to ask: {lacking}")
    if len(deploy.regions) > 1 and not options.region:
        note(f"{region} is asked, the first of {', '.join(deploy.regions)}; --region names another")
    return Place(project, region, deploy.endpoint)


def _named(target: str, options: Options) -> Place:
    """Project and region that the command line leaves out are those of cpr.toml in this folder, if it has one."""
    if options.project and options.region:
        return Place(options.project, options.region, target)
    deploy = Config.read(Path.cwd()).deploy
    project = options.project or deploy.project
    region = options.region or next(iter(deploy.regions), None)
    if not region:
        raise UsageError(f'"{target}" is no folder here; if it is an endpoint, name its region: --region us-central1')
    if not project:
        raise UsageError(
            f'"{target}" is no folder here; if it is an endpoint, name its project: --project, {PROJECT}, or '
            "[deploy] project of cpr.toml here"
        )
    if not options.region and len(deploy.regions) > 1:
        note(f"{region} is asked, the first of {', '.join(deploy.regions)}; --region names another")
    return Place(project, region, target)


@contextlib.contextmanager
def opened(target: str, options: Options) -> Iterator[Asker]:
    """Raises DeclinedError where there is no such endpoint."""
    from cpr_kit.deploy.predict.asking import LONGEST_S, Asker
    from cpr_kit.deploy.vertex.client import Vertex

    where = place(target, options)
    vertex = Vertex(where.project, where.region, report=note)
    endpoint = vertex.endpoint(where.name)
    if endpoint is None:
        there = ", ".join(each.display_name or each.id for each in vertex.endpoints()) or "none"
        raise DeclinedError(
            f'project {where.project} has no endpoint "{where.name}" in {where.region}; it has there: {there}',
            "cpr up makes that of a project; else look at the name, --project and --region",
        )
    longest = LONGEST_S[endpoint.kind] + _GRACE_S
    with Asker(endpoint, where.project, where.region, override=options.override, deadline_s=longest) as asker:
        yield asker
