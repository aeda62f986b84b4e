"""What the owner of a migrated project should know, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cpr_kit.build import imports
from cpr_kit.build.classes import Folder
from cpr_kit.build.source import Source
from cpr_kit.config import Config
from cpr_kit.errors import SourceError, UsageError
from cpr_kit.migrate import files

_STORAGE = "google.cloud.storage"
_SERVERS = ("CprModelServer(", "ModelServer(")


def of(config: Config) -> Iterator[str]:
    yield from _of_build(config)
    yield from _of_pickles(config)
    if config.image.dockerfile is None:
        yield from _of_code(config.folder)


def _of_build(config: Config) -> Iterator[str]:
    """What `cpr build` would say."""
    try:
        yield from Source.read(config).warnings
    except UsageError as error:
        yield f"cpr build refuses this folder: {error}"


def _of_pickles(config: Config) -> Iterator[str]:
    uri = config.artifact_uri
    names = files.models(Path(uri)) if uri and "://" not in uri else []
    pickles = [name for name in names if name.endswith(files.PICKLES)]
    if pickles:
        yield (
            f"{' and '.join(pickles)}: a pickle runs code as it loads, so serve only what you made; classes under the "
            "SDK's names load it as before, cpr_kit's own predictors when cpr.toml says trusted = true"
        )


def _of_code(folder: Path) -> Iterator[str]:
    read = Folder(folder)
    for module in read.modules():
        path = read.module(module)
        if path is None:
            continue
        try:
            named = list(imports.imported(read.tree(path)))
        except SourceError:
            continue
        name = path.relative_to(folder).as_posix()
        lines = [line for line, imported in named if imported.startswith(_STORAGE)]
        if lines:
            yield (
                f"{name}:{lines[0]} asks Google Cloud Storage itself, so it needs google-cloud-storage among the "
                "requirements, and credentials even where the artifacts are a folder; "
                "prediction_utils.download_model_artifacts takes both"
            )
        if any(word in path.read_text("utf-8", "replace") for word in _SERVERS):
            yield f"{name} starts a model server; only a Dockerfile of yours needs it, the kit's image starts its own"
