"""The user's folder, read without running any of it, and refused before an engine is asked for anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cpr_kit.build import application, imports, lock, requirements, rules, takeover
from cpr_kit.build.classes import Folder, Found, Outside
from cpr_kit.build.ignore import Ignore
from cpr_kit.config import FILE, Config
from cpr_kit.contract import Reference
from cpr_kit.errors import SourceError
from cpr_kit.serving_spec import is_foreign

_REFERENCE = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)\Z")
_REQUIRED = {
    "predictor": ("load", "predict"),
    "preprocessor": ("fit", "transform"),
    "handler": ("handle",),
}
_READY_MADE = ("cpr_kit", "google.cloud.aiplatform")
"""Packages whose own classes may be named in cpr.toml, with no file of the user's between."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an image is made of: every file named here exists, every class has the methods it is called by."""

    config: Config
    predictor: Reference | None = None
    preprocessor: Reference | None = None
    handler: Reference | None = None
    app: Reference | None = None
    requirements: Path | None = None
    requirements_text: str = ""
    lock: Path | None = None
    extra_packages: tuple[Path, ...] = ()
    dockerfile: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.config.folder

    @classmethod
    def read(cls, config: Config) -> Source:
        """Raises SourceError naming file, class and line, and ConfigError for keys that exclude each other."""
        rules.check(config)
        if config.image.dockerfile is not None:
            return cls(config=config, dockerfile=_file(config, "dockerfile", config.image.dockerfile))
        if is_foreign(config):
            _check_artifacts(config)
            return cls(config=config)
        if not any((config.model.predictor, config.model.handler, config.model.app)):
            if not (config.folder / FILE).is_file():
                raise SourceError(
                    config.folder,
                    f"there is no {FILE}, and no predictor is named; cpr init makes such a project",
                )
            raise SourceError(
                config.folder / FILE,
                'neither a predictor nor a handler is named; write [model] predictor = "module:Class"',
            )
        folder = Folder(config.folder)
        classes = dict(_classes(config, folder))
        app = _app(config, folder)
        packages = tuple(_package(config, name) for name in config.model.extra_packages)
        path = _requirements(config)
        _check_artifacts(config)
        modules = frozenset[str]().union(*(requirements.modules(package) for package in packages))
        found = [*(found for _, found in classes.values()), *([app[1]] if app else [])]
        references = {kind: reference for kind, (reference, _) in classes.items()}
        asked = takeover.adapt(
            requirements.read(path) if path else "",
            folder,
            takeover.files(found),
            sdk=config.image.sdk or takeover.is_used_by(packages),
        )
        return cls(
            config=config,
            predictor=references.get("predictor"),
            preprocessor=references.get("preprocessor"),
            handler=references.get("handler"),
            app=app[0] if app else None,
            requirements=path,
            requirements_text=asked.text,
            lock=_lock(config, path),
            extra_packages=packages,
            warnings=(
                *asked.warnings,
                *imports.unmet(folder, found, requirements.declared(asked.text), modules),
            ),
        )


def _classes(config: Config, folder: Folder) -> Iterator[tuple[str, tuple[Reference, Found | Outside]]]:
    for kind, methods in _REQUIRED.items():
        text = getattr(config.model, kind)
        if text is not None:
            reference = _reference(config, kind, text)
            found = _found(folder, reference)
            _check_methods(folder, found, kind, methods)
            _check_kept(config, found)
            yield kind, (reference, found)


def _app(config: Config, folder: Folder) -> tuple[Reference, Path] | None:
    """The user's own application, and the file of its module."""
    if config.model.app is None:
        return None
    reference = _reference(config, "app", config.model.app)
    path = application.find(folder, reference)
    if Ignore.read(config.folder).leaves_out(path.relative_to(config.folder).as_posix()):
        raise SourceError(path, "holds the application, and .dockerignore leaves it out of the image")
    return reference, path


def _reference(config: Config, kind: str, text: str) -> Reference:
    match = _REFERENCE.match(text)
    if match is None:
        what = "an application" if kind == "app" else "a class"
        form = "module:name" if kind == "app" else "module:Class"
        raise SourceError(config.folder / FILE, f'{kind} is "{text}"; {what} is written "{form}"')
    return Reference(*match.groups())


def _found(folder: Folder, reference: Reference) -> Found | Outside:
    ready_made = any(reference.module == name or reference.module.startswith(f"{name}.") for name in _READY_MADE)
    if ready_made and folder.module(reference.module) is None:
        return Outside(reference.module, reference.name)
    return folder.find(reference.module, reference.name)


def _check_methods(folder: Folder, found: Found | Outside, kind: str, required: tuple[str, ...]) -> None:
    methods = folder.methods(found)
    missing = [name for name in required if methods is not None and name not in methods]
    if missing:
        where = found.where if isinstance(found, Found) else f"{found.module}:{found.name}"
        plural = "methods" if len(missing) > 1 else "method"
        raise SourceError(where, f"class {found.name} has no {plural} {' and '.join(missing)}, which a {kind} needs")


def _check_kept(config: Config, found: Found | Outside) -> None:
    """A module that .dockerignore leaves out would be missing in the image only."""
    if isinstance(found, Found):
        relative = found.path.relative_to(config.folder).as_posix()
        if Ignore.read(config.folder).leaves_out(relative):
            raise SourceError(
                found.where, f"class {found.name} is in a file that .dockerignore leaves out of the image"
            )


def _requirements(config: Config) -> Path | None:
    if config.model.requirements is not None:
        return _file(config, "requirements", config.model.requirements)
    path = config.folder / "requirements.txt"
    return path if path.is_file() else None


def _lock(config: Config, requirements: Path | None) -> Path | None:
    path = lock.path_of(requirements, config.folder)
    return path if lock.is_ours(path) else None


def _file(config: Config, key: str, name: str) -> Path:
    path = config.folder / name
    if path.is_file():
        return path
    raise SourceError(path, f"the {key} file does not exist; it is named in {config.folder / FILE}, or by a flag")


def _package(config: Config, name: str) -> Path:
    path = config.folder / name
    if path.is_dir():
        if not any((path / file).is_file() for file in ("pyproject.toml", "setup.py")):
            raise SourceError(
                path, "the extra package has neither pyproject.toml nor setup.py, so pip cannot install it"
            )
        return path
    return _file(config, "extra package", name)


def _check_artifacts(config: Config) -> None:
    """Artifacts serve local runs, and those of `bake` every run; without them it is known to fail now."""
    for key, name in (("artifacts", config.model.artifacts), ("baked", config.image.bake)):
        if name is None or "://" in name:
            continue
        path = config.folder / name
        if not path.is_dir():
            wanted = "artifacts are a folder or gs://" if key == "artifacts" else "train the model first"
            what = "is a file; a model is a folder" if path.exists() else f"does not exist; {wanted}"
            raise SourceError(path, f"the {key} folder {what}")
        if not any(path.iterdir()):
            raise SourceError(path, f"the {key} folder is empty; put the trained model into it")
