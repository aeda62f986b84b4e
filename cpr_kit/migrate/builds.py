"""Which call builds the image of a folder, and where the code of that image lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cpr_kit.build.classes import Folder
from cpr_kit.errors import UsageError
from cpr_kit.migrate import files, served
from cpr_kit.migrate.calls import BUILDS, Call

DOCKERFILE = "Dockerfile"


@dataclass(frozen=True, kw_only=True)
class Site:
    """`folder` is where the code lies and cpr.toml belongs; `call` built its image, if a script says so."""

    folder: Path
    call: Call | None = None
    others: tuple[Call, ...] = ()
    dockerfile: Path | None = None


def concerns(folder: Path, script: Path, calls: Iterable[Call]) -> bool:
    """Whether a script is one of this folder: it lies there, or it builds an image of it."""
    return script.is_relative_to(folder) or any(_place(folder, call) for call in calls if call.function in BUILDS)


def find(folder: Path, calls: Iterable[Call], *, classes_wanted: bool) -> Site:
    """Raises UsageError where calls build several folders. With `classes_wanted` a Dockerfile has no say."""
    builds = [call for call in calls if call.function in BUILDS]
    placed = [(place, call) for call in builds if (place := _place(folder, call))]
    dockerfile = folder / DOCKERFILE if (folder / DOCKERFILE).is_file() else None
    places = list(dict.fromkeys(place for place, _ in placed))
    if folder in places:
        places = [folder]
    if len(places) > 1:
        listed = ", ".join(f"{place} ({call.where})" for place, call in placed)
        raise UsageError(f"{folder} holds several projects: {listed}; give the folder of one")
    if places:
        own = [call for place, call in placed if place == places[0]]
        # A notebook runs from top to bottom, and what is in the files is what its last cells wrote.
        return Site(folder=places[0], call=own[-1], others=tuple(own[:-1]), dockerfile=dockerfile)
    if dockerfile and not classes_wanted:
        return Site(folder=folder, dockerfile=dockerfile)
    return Site(folder=_below(folder), dockerfile=dockerfile)


def _place(folder: Path, call: Call) -> Path | None:
    """The source folder that a call names, if it is this folder or one in it."""
    text = call.text("src_dir")
    if text is None:  # computed: a script of this folder means the code of this folder
        return _below(folder) if call.folder == folder else None
    place = files.inside(text, (call.folder, folder, folder.parent))
    return place if place and place.is_relative_to(folder) else None


def _below(folder: Path) -> Path:
    """Where the classes are, when all of them are in one folder that is no package."""
    found = served.read(Folder(folder)).candidates
    tops = {each.found.module.split(".")[0] if "." in each.found.module else "" for each in found}
    top = next(iter(tops)) if len(tops) == 1 else ""
    return folder / top if top and not (folder / top / "__init__.py").exists() else folder
