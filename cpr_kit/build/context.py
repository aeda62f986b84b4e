"""The folder that an engine builds from. The user's folder is read, copied with plain modes, never written to."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from cpr_kit.build import ignore, index, lock, requirements, settings, template, wheel
from cpr_kit.build.ignore import Ignore
from cpr_kit.build.source import Source
from cpr_kit.config import FILE, toml
from cpr_kit.engine.manifest import tree_digest
from cpr_kit.engine.reaper import FULL
from cpr_kit.errors import SourceError
from cpr_kit.serving_spec import is_foreign

IMAGE = "image.json"
DOCKERFILE = "Dockerfile"
KIT = ".cpr"
"""A user's own Dockerfile installs the kit with `COPY .cpr/ /tmp/kit/` and `pip install /tmp/kit/*.whl`."""

EJECTED = ".cpr-eject.json"
"""In a folder that `cpr build --eject` made: the files that it wrote, with their digests."""

_FOLDER_MODE = 0o755
_EPOCH = 315532800  # 1980, as in the templates' scripts


def make(source: Source, folder: Path) -> dict[str, str]:
    """Fill the empty folder; the build arguments come back. Raises SourceError for files that cannot be copied."""
    if source.dockerfile is not None:
        copy(source.folder, folder, Ignore.read(source.folder, (*ignore.ALWAYS, KIT)))
        shutil.copyfile(source.dockerfile, folder / DOCKERFILE)
        # It was honoured above; a builder that honoured it again could leave out the Dockerfile itself.
        (folder / ignore.FILE).unlink(missing_ok=True)
        if KIT in source.dockerfile.read_text("utf-8", "replace"):
            wheel.write(_subfolder(folder, KIT))
        if (source.folder / EJECTED).is_file() and index.is_blank(folder / "index"):
            index.write(folder / "index")
        date(folder)
        return {}
    text, arguments = template.render(source)
    if is_foreign(source.config):
        (folder / DOCKERFILE).write_text(text + template.labels(source, None), "utf-8")
        return arguments
    make_kit(folder, template.scripts(), needs(source))
    _write_requirements(source, folder / "requirements")
    packages = _copy_packages(source, folder / "packages")
    code(source, folder)
    image = {
        "kit": next((folder / "kit").glob("*.whl")).relative_to(folder).as_posix(),
        "dependencies": needs(source),
        "requirements": "requirements/requirements.txt" if source.requirements_text else None,
        "lock": f"requirements/{lock.FILE}" if source.lock else None,
        "extra_packages": packages,
        "code": "code",
        "env": {**template.environment(source), **template.baked(source.config.image.env)},
        "entrypoint": list(template.ENTRYPOINT),
        "ports": list(source.config.image.ports),
    }
    (folder / IMAGE).write_text(json.dumps(image, indent=2) + "\n", "utf-8")
    (folder / DOCKERFILE).write_text(text + template.labels(source, tree_digest(folder / "code")), "utf-8")
    date(folder)
    return arguments


def code(source: Source, folder: Path) -> Path:
    """All that an image has of the folder, copied below the empty folder: code, a baked model, its part of cpr.toml."""
    target = _subfolder(folder, "code")
    copy(source.folder, target, Ignore.read(source.folder, _always(source)))
    if os.path.lexists(target / FILE):  # .dockerignore may leave it out: the server reads the image's environment
        _write_settings(source.folder / FILE, target / FILE)
    _copy_baked(source, target)
    return target


def _write_settings(path: Path, copied: Path) -> None:
    copied.unlink()
    if text := settings.text(toml(path)):
        copied.write_text(text, "utf-8")
        copied.chmod(0o644)


def make_kit(folder: Path, files: Path, needed: Iterable[str]) -> None:
    """The part that every image of the kit needs: its template's files, the kit and its needs, the index's settings."""
    copy(files, _subfolder(folder, "template"), Ignore.read(files, (*ignore.ALWAYS, DOCKERFILE)))
    wheel.write(_subfolder(folder, "kit"))
    index.write(_subfolder(folder, "index"))
    requirements = _subfolder(folder, "requirements")
    (requirements / "kit.txt").write_text("".join(f"{line}\n" for line in needed), "utf-8")
    (requirements / "requirements.txt").touch()
    _subfolder(folder, "packages").joinpath(".keep").touch()  # Docker's COPY needs something to copy


def needs(source: Source) -> list[str]:
    """What the kit needs in this image. Requirements that name the kit, to get an extra, get this very kit."""
    extras = requirements.declared(source.requirements_text).get(wheel.DISTRIBUTION, frozenset())
    return [*wheel.requirements(sorted(extras)), *template.KIT_PACKAGES]


def locked(source: Source, python: str) -> lock.Inputs:
    """What `cpr lock` locks for this source."""
    text = requirements.without(source.requirements_text, wheel.DISTRIBUTION)
    own = [line for line in map(requirements.plain, text.splitlines()) if line]
    return lock.Inputs(
        lines=(*needs(source), *own),
        packages=source.extra_packages,
        python=python,
        platform=source.config.image.platform,
    )


def date(folder: Path) -> None:
    """Give every file the same time: it becomes part of an image's layers."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (_EPOCH, _EPOCH), follow_symlinks=False)


def _write_requirements(source: Source, folder: Path) -> None:
    text = requirements.without(source.requirements_text, wheel.DISTRIBUTION)
    (folder / "requirements.txt").write_text(text, "utf-8")
    if source.lock is not None:
        python, _ = lock.made_for(source.lock.read_text("utf-8"))
        lock.check(source.lock, locked(source, python))
        shutil.copyfile(source.lock, folder / lock.FILE)
        (folder / lock.OPTIONS).write_text(requirements.options(text), "utf-8")


def copy(origin: Path, target: Path, left_out: Ignore) -> None:
    """Copy a tree: files as 644 or 755, folders as 755, links within it as links. Nothing else is followed."""
    root = origin.resolve()
    for path in _wanted(root, left_out):
        copied = target / path.relative_to(root)
        if path.is_symlink():
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.symlink_to(_link(root, origin, path))
        elif path.is_dir():
            copied.mkdir(parents=True, exist_ok=True)
        else:
            copied.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(path, copied)
    for found in (target, *target.rglob("*")):
        if found.is_dir() and not found.is_symlink():
            found.chmod(_FOLDER_MODE)


def _wanted(root: Path, left_out: Ignore) -> Iterator[Path]:
    """Everything to copy, in a fixed order; virtual environments are known by their pyvenv.cfg."""
    pending = [root]
    while pending:
        for path in sorted(_entries(pending.pop())):
            relative = path.relative_to(root).as_posix()
            is_folder = path.is_dir() and not path.is_symlink()
            if is_folder and not (path / "pyvenv.cfg").exists() and not left_out.prunes(relative):
                pending.append(path)
            elif is_folder:
                continue
            if not left_out.leaves_out(relative):
                yield path


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from error


def _copy_file(path: Path, copied: Path) -> None:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise SourceError(path, f"is neither a file nor a folder; name it in {ignore.FILE}, or move it away")
    try:
        shutil.copyfile(path, copied)
    except OSError as error:
        raise _unreadable(path, error) from error
    copied.chmod(0o755 if mode & 0o111 else 0o644)


def _unreadable(path: Path, error: OSError) -> SourceError:
    if error.errno in FULL:
        raise error  # it is the copy's folder that lacks something
    return SourceError(path, f"cannot be read ({error.strerror}); name it in {ignore.FILE}, or change its mode")


def _link(root: Path, origin: Path, path: Path) -> str:
    """The link's target seen from the link. Raises SourceError where it leaves the folder, or leads nowhere."""
    where = origin / path.relative_to(root)
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise SourceError(where, f"is a link that leads nowhere; remove it, or name it in {ignore.FILE}") from error
    if not target.is_relative_to(root):
        raise SourceError(
            where,
            f"is a link to {target}, outside the folder; copy the file here, or name the link in {ignore.FILE}",
        )
    return Path(os.path.relpath(target, path.parent)).as_posix()


def _copy_baked(source: Source, code: Path) -> None:
    """The model that is to be in the image, whatever .dockerignore says of its folder."""
    if source.config.image.bake is not None:
        left_out = Ignore(patterns=(), always=tuple(ignore.parse(ignore.ALWAYS, source.folder)))
        target = code
        for part in PurePosixPath(source.config.image.bake).parts:
            target /= part
            target.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        copy(source.folder / source.config.image.bake, target, left_out)


def _copy_packages(source: Source, folder: Path) -> list[str]:
    copied = []
    for package in source.extra_packages:
        path = folder / package.resolve().name
        if path.exists():
            raise SourceError(package, f"two extra packages are named {path.name}; rename one")
        if package.is_dir():
            copy(package, path, Ignore.read(package))
        else:
            _copy_file(package, path)
        copied.append(f"packages/{path.name}")
    return copied


def _always(source: Source) -> tuple[str, ...]:
    """What the image has no use for: artifacts, which are mounted where it runs, and the requirements file. A model
    that is to be in the image is copied apart.

    That one may name an index with its password, and what it asks for is installed already. A Dockerfile of
    the user's own may copy it.
    """
    artifacts = source.config.model.artifacts
    left_out = [] if artifacts is None or "://" in artifacts else [source.folder / artifacts]
    left_out += [source.folder / source.config.image.bake] if source.config.image.bake else []
    if source.requirements and not source.dockerfile:
        left_out += [*requirements.files(source.requirements), *([source.lock] if source.lock else [])]
    root = source.folder.resolve()
    inside = [path.resolve() for path in left_out if path.resolve().is_relative_to(root) and path.resolve() != root]
    return (*ignore.ALWAYS, *(ignore.escaped(path.relative_to(root).as_posix()) for path in inside))


def _subfolder(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir(mode=_FOLDER_MODE)
    return path
