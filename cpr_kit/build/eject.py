"""`cpr build --eject`: the folder that an image is built from, as a project of the user's own from then on.

What the kit would hand to the builder beside the Dockerfile is written into it, so that `docker build .` needs no kit.
This machine's index settings are not: they are given to each build.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from cpr_kit.build import context, ignore, index, reference, template
from cpr_kit.build.settings import written
from cpr_kit.build.source import Source
from cpr_kit.config import FILE, Config
from cpr_kit.engine.manifest import file_digest
from cpr_kit.engine.reaper import temporary_folder
from cpr_kit.errors import UsageError
from cpr_kit.serving_spec import is_foreign
from cpr_kit.version import __version__

README = "README.md"
TEXTS = "eject"
"""The folder among the templates that holds the words and the entry point."""
_ENTRY_POINTS = ("entrypoint.py", "cpr_entrypoint.py")
_CODE, _INDEX = "code", "index"
_ARGUMENT = re.compile(r"^ARG (\w+)(?:=.*)?$", re.MULTILINE)
_LEFT_OUT = f"{README}\n{FILE}\n{context.EJECTED}\n{ignore.FILE}\n**/.git\n**/__pycache__\n"
_NO_SETTINGS = {"PIP_CONFIG_FILE": os.devnull}
_MOST_TOLD = 5


def eject(source: Source, folder: Path) -> list[str]:
    """Write the project into `folder`, which is new, empty, or ejected before and not edited; the files' names.

    Raises UsageError for a folder that holds anything else.
    """
    _check_place(source, folder)
    with temporary_folder("cpr-eject-") as made:
        _make(source, made, folder.resolve())
        digests = {name: _digest(made / name) for name in _files(made)}
        _check_files(folder, digests)
        manifest = {"kit": __version__, "files": digests}
        (made / context.EJECTED).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
        for name in _written(folder):
            (folder / name).unlink(missing_ok=True)
        shutil.copytree(made, folder, symlinks=True, dirs_exist_ok=True)
    return list(digests)


def dockerfile(text: str, arguments: Mapping[str, str], entry_point: str | None) -> str:
    """A template's text with its arguments' values as their defaults, and the user's entry point for the kit's."""

    def default(match: re.Match[str]) -> str:
        value = arguments.get(match[1])
        return match[0] if value is None else f"ARG {match[1]}={template.quoted(match[1], value)}"

    text = _ARGUMENT.sub(default, text)
    if entry_point is None:
        return text
    kits, own = (f"ENTRYPOINT {json.dumps(words)}\n" for words in (template.ENTRYPOINT, ("python", entry_point)))
    assert kits in text, "the entry point of every template with the kit is the kit's"
    return text.replace(kits, own)


def toml(config: Config, folder: Path, places: Mapping[str, str]) -> str:
    """cpr.toml of the project in `folder`; what its Dockerfile says is not said again.

    `places` has the files of [[check]] by the names they had. Artifacts stay where they are.
    """
    image, artifacts = config.image, config.model.artifacts
    if artifacts is not None and "://" not in artifacts:
        artifacts = Path(os.path.relpath(config.folder.resolve() / artifacts, folder)).as_posix()
    baked = template.baked(image.env)
    said = {
        "name": image.name or reference.default(config.folder),
        "dockerfile": context.DOCKERFILE,
        "platform": image.platform,
        "ports": list(image.ports) if image.names_ports else None,
        "command": list(image.command),
        "args": list(image.args),
        "predict_route": image.predict_route,
        "health_route": image.health_route,
        "shared_memory_mb": image.shared_memory_mb,
        "env": {name: value for name, value in image.env.items() if name not in baked},
    }
    blocks = [_block("[model]", {"artifacts": artifacts}), _block("[image]", said)]
    for check in config.checks:
        values = dataclasses.asdict(check)
        blocks.append(_block("[[check]]", {key: places.get(value, value) for key, value in values.items()}))
    head = f"# Made by `cpr build --eject`. Base, classes and [serve] are in the {context.DOCKERFILE} now.\n"
    return "\n".join([head, *filter(None, blocks)])


def _make(source: Source, made: Path, folder: Path) -> None:
    """Everything that will be in `folder`, into `made`."""
    config = source.config
    text, _ = template.render(source)
    arguments = context.make(source, made)
    (made / context.IMAGE).unlink(missing_ok=True)
    entry_point = None
    if not is_foreign(config):
        (made / _CODE / FILE).unlink(missing_ok=True)  # the project's is beside the Dockerfile now
        entry_point = _write_entry_point(made / _CODE)
        shutil.rmtree(made / _INDEX)
        (made / _INDEX).mkdir(mode=0o755)
        index.write(made / _INDEX, _NO_SETTINGS)
    label = f"LABEL cpr-kit.version={template.quoted('cpr-kit.version', __version__)}\n"
    (made / context.DOCKERFILE).write_text(dockerfile(text, arguments, entry_point) + label, "utf-8")
    context.date(made)
    places = dict(_places(config, made))
    (made / FILE).write_text(toml(config, folder, places), "utf-8")
    (made / README).write_text(_readme(source, folder, entry_point), "utf-8")
    (made / ignore.FILE).write_text(_LEFT_OUT, "utf-8")


def _write_entry_point(code: Path) -> str:
    name = next((name for name in _ENTRY_POINTS if not (code / name).exists()), None)
    if name is None:
        raise UsageError(f"the project has {' and '.join(_ENTRY_POINTS)}; rename one, the entry point needs its name")
    shutil.copyfile(template.folder() / TEXTS / _ENTRY_POINTS[0], code / name)
    (code / name).chmod(0o644)
    return name


def _places(config: Config, made: Path) -> Iterator[tuple[str, str]]:
    """Where each file of [[check]] is: in the code, or copied beside it where the image has no use for it."""
    for name in {each for check in config.checks for each in (check.request, check.expect) if each}:
        if (made / _CODE / name).is_file():
            yield name, f"{_CODE}/{name}"
        elif (config.folder / name).is_file() and (made / name).resolve().is_relative_to(made.resolve()):
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(config.folder / name, made / name)


def _readme(source: Source, folder: Path, entry_point: str | None) -> str:
    text = (template.folder() / TEXTS / ("kit.md" if entry_point else "foreign.md")).read_text("utf-8")
    values = {
        "project": folder.name,
        "image": source.config.image.name or reference.default(source.folder),
        "base": source.config.image.base,
        "entry_point": entry_point or "",
        "version": __version__,
    }
    return Template(text).substitute(values)


def _check_place(source: Source, folder: Path) -> None:
    if source.dockerfile is not None:
        raise UsageError(f"{source.folder} has a Dockerfile of its own already: {source.dockerfile.name}")
    origin, target = source.folder.resolve(), folder.resolve()
    if target.is_relative_to(origin) or origin.is_relative_to(target):
        raise UsageError(f"{folder} and the project {source.folder} lie in each other; give a folder beside it")
    if target.exists() and not target.is_dir():
        raise UsageError(f"{folder} is a file; give a folder")
    if target.is_dir() and any(target.iterdir()) and not _written(folder):
        raise UsageError(f"{folder} is not empty; give a new folder, or an empty one")


def _check_files(folder: Path, names: Iterable[str]) -> None:
    """Of an earlier eject, what was edited since, and what was put where a new file would go, is the user's."""
    written = _written(folder)
    own = [name for name, digest in written.items() if _exists(folder / name) and _digest(folder / name) != digest]
    own += [name for name in names if name not in written and _exists(folder / name)]
    above = {each.as_posix() for name in names for each in Path(name).parents[:-1]}
    own += [name for name in sorted(above) if _exists(folder / name) and not (folder / name).is_dir()]
    if own:
        raise UsageError(
            f"{folder} was ejected before, and these files are yours since: {', '.join(own[:_MOST_TOLD])}; "
            "nothing was written; give another folder"
        )


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )


def _written(folder: Path) -> dict[str, str]:
    """What an earlier eject wrote, with digests; nothing where there was none."""
    try:
        files: dict[str, str] = json.loads((folder / context.EJECTED).read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return files


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link:{path.readlink()}"
    return file_digest(path) if path.is_file() else "folder"


def _block(name: str, values: Mapping[str, Any]) -> str:
    lines = [f"{key} = {written(value)}" for key, value in values.items() if value not in (None, [], {})]
    return "\n".join([name, *lines, ""]) if lines else ""
