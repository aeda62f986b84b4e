"""A folder written against google.cloud.aiplatform.prediction, read into what cpr.toml says. Nothing is imported."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cpr_kit.build import reference, template
from cpr_kit.build.classes import Folder, Outside
from cpr_kit.config import Config, ImageSection, ModelSection
from cpr_kit.errors import ConfigError, SourceError, UsageError
from cpr_kit.migrate import builds, calls, files, notes, served
from cpr_kit.migrate.builds import Site
from cpr_kit.migrate.calls import Call
from cpr_kit.migrate.served import Candidate, Kind, Served

SDK_BASE = "python:3.10"
"""What build_cpr_model starts from unless it is told otherwise."""

_OLDEST = (3, 10)
_PICKLE_READERS = ("SklearnPredictor", "XgboostPredictor", "LightgbmPredictor", "CatboostPredictor")
_PYTHON = re.compile(r"(?:\A|/)python:(\d+)\.(\d+)")
_PREBUILT = re.compile(r"(?:-docker\.pkg\.dev/vertex-ai|gcr\.io/cloud-aiplatform)/prediction/")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user says about a project; it wins over what is found."""

    predictor: str | None = None
    handler: str | None = None
    base: str | None = None
    artifacts: str | None = None


@dataclass(frozen=True, kw_only=True)
class Project:
    """`reasons` says of a key where its value was found; `notes` are sentences for the project's owner."""

    config: Config
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass
class _Findings:
    """What is put together while a folder is read: values by key, reasons by key, notes."""

    values: dict[str, object] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    bases: dict[str, Outside] = field(default_factory=dict)

    def take(self, key: str, value: object, reason: str = "") -> None:
        if value is not None:
            self.values[key] = value
            self.reasons[key] = reason

    def section(self, cls: type[ModelSection | ImageSection]) -> dict[str, object]:
        return {name: value for name, value in self.values.items() if name in cls.__dataclass_fields__}


def read(folder: Path, wanted: Wanted) -> Project:
    """Raises UsageError where there are several candidates, SourceError where there is nothing to serve."""
    folder = folder.resolve()
    scripts = [(path, calls.read(path)) for path in files.scripts(folder)]
    every = [call for path, found in scripts if builds.concerns(folder, path, found) for call in found]
    site = builds.find(folder, every, classes_wanted=bool(wanted.predictor or wanted.handler))
    found = _Findings()
    if site.folder != folder:
        found.notes.append(f"the code is in {site.folder.name}/, so cpr.toml belongs there")
    if site.call is None and site.dockerfile and not (wanted.predictor or wanted.handler):
        _own_dockerfile(site.dockerfile, found)
    else:
        _classes(site, wanted, found)
        _image(site, wanted, found)
        _requirements(site, found)
    _artifacts(site, wanted, every, found)
    _trusted(site, found)
    config = Config(
        folder=site.folder,
        model=replace(ModelSection(), **found.section(ModelSection)),  # type: ignore[arg-type]
        image=replace(ImageSection(), **found.section(ImageSection)),  # type: ignore[arg-type]
        checks=files.requests(site.folder, every),
    )
    found.notes += notes.of(config)
    return Project(config=config, reasons=found.reasons, notes=tuple(dict.fromkeys(found.notes)))


def _own_dockerfile(path: Path, found: _Findings) -> None:
    found.take("dockerfile", path.name, "your own, used as it is")
    found.notes.append(
        "the Dockerfile makes the image as it does now, SDK included; `cpr check Dockerfile` looks through it; "
        "to let the kit make the image instead: --predictor module:Class, or --handler"
    )


def _classes(site: Site, wanted: Wanted, found: _Findings) -> None:
    folder = Folder(site.folder)
    there = served.read(folder)
    found.notes += [f"not read: {fault}" for fault in there.unread]
    for kind, flag in (("predictor", wanted.predictor), ("handler", wanted.handler)):
        candidate = _chosen(folder, there, kind, flag=flag, call=site.call)  # type: ignore[arg-type]
        if candidate is not None:
            found.take(kind, str(candidate.reference), _origin(candidate))
            found.bases[kind] = candidate.base
        elif flag:
            found.take(kind, _checked(folder, kind, flag), f"--{kind}")
    preprocessor = there.only("preprocessor", folder)
    if preprocessor:
        found.take("preprocessor", str(preprocessor.reference), _origin(preprocessor))
    if not found.values:
        raise SourceError(
            site.folder,
            f"no class here derives from Predictor or Handler of {served.SDK}.prediction; "
            "name one with --predictor module:Class, or give the folder that holds it",
        )
    for other in site.others:
        found.notes.append(f"{other.where} builds an image of this folder too; the last build counts")
    if site.call and site.dockerfile:
        found.notes.append(f"the Dockerfile is not used: {site.call.where} builds without it")


def _chosen(folder: Folder, there: Served, kind: Kind, *, flag: str | None, call: Call | None) -> Candidate | None:
    """By the flag, else by the call, else the only one. A call that names no handler means the SDK's own."""
    if flag:
        module, colon, name = flag.rpartition(":")
        same = [
            each for each in there.of(kind) if each.found.name == name and (not colon or each.found.module == module)
        ]
        return same[0] if len(same) == 1 else None
    if call is None:
        return there.only(kind, folder)
    named = call.classes.get(kind)
    if named is None:
        return None
    return there.named(kind, named) or (there.only(kind, folder) if kind == "predictor" else None)


def _checked(folder: Folder, kind: str, flag: str) -> str:
    """A class that derives from nothing known, or that a library brings. Raises UsageError, SourceError."""
    module, _, name = flag.rpartition(":")
    if not module:
        raise UsageError(f'--{kind} is "{flag}"; a class is written "module:Class"')
    if not served.is_provided(module):
        folder.find(module, name)
    return flag


def _origin(candidate: Candidate) -> str:
    line = f"{candidate.found.path.name}:{candidate.found.node.lineno}"
    return f"{line}, derives from {candidate.base.name}"


def _image(site: Site, wanted: Wanted, found: _Findings) -> None:
    call = site.call
    if call:
        _name(call, found)
        found.take("platform", call.text("platform"), call.where)
    base, reason = _base(call, wanted)
    version = _PYTHON.search(base or "")
    if base and version and tuple(map(int, version.groups())) < _OLDEST:
        found.notes.append(
            f"{base} ({reason}) has a Python older than the kit's 3.10, so base is {SDK_BASE}; "
            "a pickle made by an older scikit-learn may have to be made again"
        )
        base = SDK_BASE
    found.take("base", base, reason)
    if base and _PREBUILT.search(base) and "prebuilt" in _templates():
        found.take("template", "prebuilt", "on top of one of Vertex AI's prebuilt images")
    if base == SDK_BASE:
        found.notes.append(f"{base}-slim is the same Python without compilers, and far smaller: try --base {base}-slim")


def _name(call: Call, found: _Findings) -> None:
    text = call.text("output_image_uri")
    try:
        found.take("name", text and reference.checked(text) and text, call.where)
    except ConfigError:
        text = None
    if text is None:
        found.notes.append(f"the image's name at {call.where} is no plain text: give it with name, or cpr build -t")


def _base(call: Call | None, wanted: Wanted) -> tuple[str | None, str]:
    if wanted.base:
        return wanted.base, "--base"
    if call is None:
        return None, ""
    given = call.text("base_image")
    return (given, call.where) if given else (SDK_BASE, f"the default of {call.function}")


def _templates() -> set[str]:
    return {path.parent.name for path in template.folder().glob("*/Dockerfile")}


def _requirements(site: Site, found: _Findings) -> None:
    call, folder = site.call, site.folder
    named = call.text("requirements_path") if call else None
    path = _existing(named, site) if named else None
    if path is None and (folder / "requirements.txt").is_file():
        path = folder / "requirements.txt"
    if call and named and path is None:
        found.notes.append(f"{named}, which {call.where} names as requirements, is not there")
    if path:
        found.take("requirements", files.relative(path, folder), call.where if call and named else "")
    packages = call.arguments.get("extra_packages") if call else None
    texts = [text for text in packages if isinstance(text, str)] if isinstance(packages, tuple) else []
    there = [each for text in texts if (each := _existing(text, site))]
    if there and call:
        found.take("extra_packages", tuple(files.relative(each, folder) for each in there), call.where)
    if call and isinstance(packages, tuple) and len(there) < len(packages):
        found.notes.append(f"of the extra packages at {call.where} some are not there; write them under extra_packages")


def _existing(text: str, site: Site) -> Path | None:
    folders = (*((site.call.folder,) if site.call else ()), site.folder, site.folder.parent)
    with contextlib.suppress(OSError, ValueError):  # what no path can be
        return next((path.resolve() for each in folders if (path := each / text).exists()), None)
    return None


def _artifacts(site: Site, wanted: Wanted, every: list[Call], found: _Findings) -> None:
    if wanted.artifacts:
        found.take("artifacts", files.given_artifacts(wanted.artifacts, site.folder), "--artifacts")
        return
    there, reason = files.artifacts(site.folder, every)
    if len(there) == 1:
        found.take("artifacts", there[0], reason)
    elif there:
        found.notes.append(f"{' and '.join(there)} hold model files: choose one with --artifacts")


def _trusted(site: Site, found: _Findings) -> None:
    """The kit's own predictors refuse pickles that nobody vouched for; under the SDK's names they load as before."""
    base, artifacts = found.bases.get("predictor"), found.values.get("artifacts")
    if base is None or base.module.startswith(served.SDK) or base.name not in _PICKLE_READERS:
        return
    names = files.models(site.folder / artifacts) if isinstance(artifacts, str) and "://" not in artifacts else []
    if names and all(name.endswith(files.PICKLES) for name in names):
        found.take("trusted", True, f"{names[0]} is a pickle, which runs code as it loads: only if you made it")
