"""Upstream's `download_model_artifacts`: the artifacts in the working directory, where its predictors open them."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cpr_kit.runtime import artifacts

logger = logging.getLogger("cpr_kit")


def download_model_artifacts(artifact_uri: str) -> None:
    """Copy what `artifact_uri` names, a gs:// URI, a folder or a file, into the working directory.

    A folder of the bucket is that folder: gs://b/model does not bring model2/. Where the working directory cannot be
    written, another takes its place, in which everything of the first can be read. Raises StartError.
    """
    is_file = not artifact_uri.startswith(artifacts.SCHEME) and Path(artifact_uri).is_file()
    origin = Path(artifact_uri).resolve() if is_file else artifacts.fetch(artifact_uri)
    here = Path.cwd()
    if origin == here:
        return
    files = dict(_files(origin))
    if not os.access(here, os.W_OK):
        _move(here, {relative.parts[0] for relative in files})
    for relative, file in files.items():
        _copy(file, Path.cwd() / relative)


def _files(origin: Path) -> Iterator[tuple[Path, Path]]:
    """Each file with where it goes. Links are followed, as in a copy."""
    if origin.is_file():
        yield Path(origin.name), origin
        return
    for folder, _, names in os.walk(origin, followlinks=True):
        for name in names:
            file = Path(folder) / name
            yield file.relative_to(origin), file


def _copy(file: Path, target: Path) -> None:
    """In one step, since other workers may be reading what is there, and copying the same.

    No link: predictors open these files to write into them, and what they come from is not theirs.
    """
    if target.exists() and target.samefile(file):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f".{target.name[:200]}.{os.getpid()}")
    try:
        shutil.copyfile(file, made)
        made.replace(target)
    finally:
        made.unlink(missing_ok=True)


def _move(here: Path, taken: set[str]) -> None:
    """Make another folder the working directory, with links to all of this one that is not among the artifacts."""
    folder = Path(tempfile.mkdtemp(prefix="cpr-working-"))
    logger.info("%s cannot be written: with the artifacts, %s is the working directory from now on", here, folder)
    for entry in here.iterdir():
        if entry.name not in taken:
            with contextlib.suppress(OSError):
                (folder / entry.name).symlink_to(entry)
    # "" stands for the working directory, whichever that is at the time.
    sys.path[:] = [str(here) if entry in ("", ".") else entry for entry in sys.path]
    os.chdir(folder)
