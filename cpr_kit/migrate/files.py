"""The files beside the code: what was trained, and requests that were tried."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cpr_kit.config import CheckSection
from cpr_kit.errors import UsageError
from cpr_kit.migrate.calls import Call

PICKLES = (".joblib", ".pkl", ".pickle")
_MODELS = (*PICKLES, ".bst", ".ubj", ".skops", ".onnx", ".cbm", ".pt", ".pth", ".h5", ".keras", ".safetensors", ".npz")
_MODEL_FOLDERS = ("model", "models", "artifacts", "model_artifacts")
"""What a folder beside the code is called when it holds the model; within the code any name will do."""

_REQUESTS = ("instance*", "*request*", "sample*", "requests/*")
_CONTENT_TYPES = {".json": "application/json", ".csv": "text/csv", ".jsonl": "application/jsonl"}
_MAX_REQUEST = 1_500_000
_MAX_REQUESTS = 5
_EXPECTED = ".expected.json"


def scripts(folder: Path) -> list[Path]:
    """Scripts and notebooks in the folder, one step below it, and beside it."""
    found = [
        path
        for pattern in ("*", "*/*", "../*")
        for kind in (".ipynb", ".py")
        for path in sorted(folder.glob(f"{pattern}{kind}"))
        if not any(part.startswith(".") and part != ".." for part in path.relative_to(folder).parts)
    ]
    return list(dict.fromkeys(path.resolve() for path in found))


def relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def given_artifacts(text: str, folder: Path) -> str:
    """What --artifacts says, seen from the folder. Raises UsageError for what is no folder."""
    if "://" in text:
        return text
    if not Path(text).is_dir():
        raise UsageError(f"--artifacts is {text}, which is no folder here; give a folder or gs://")
    return relative(Path(text).resolve(), folder)


def artifacts(folder: Path, calls: Iterable[Call]) -> tuple[list[str], str]:
    """Where the model may lie, and what says so. A folder of this machine comes before a bucket."""
    named = [(call.text("artifact_uri"), call) for call in calls]
    for text, call in named:
        place = None if text is None or "://" in text else inside(text, (call.folder, folder, folder.parent))
        if place and any(_is_model(each) for each in place.iterdir()):
            return [relative(place, folder)], call.where
    if there := list(_model_folders(folder)):
        return [relative(path, folder) for path in there], "it holds model files"
    buckets = [(text, call.where) for text, call in named if text and text.startswith("gs://") and "[" not in text]
    return ([buckets[-1][0]], buckets[-1][1]) if buckets else ([], "")


def inside(text: str, folders: Iterable[Path]) -> Path | None:
    """The first of the folders' entries of that name that is a folder."""
    with contextlib.suppress(OSError, ValueError):  # what no path can be
        return next((path for each in folders if (path := (each / text).resolve()).is_dir()), None)
    return None


def models(folder: Path) -> list[str]:
    """The names of model files directly in a folder."""
    return sorted(path.name for path in folder.iterdir() if _is_model(path)) if folder.is_dir() else []


def requests(folder: Path, calls: Iterable[Call]) -> tuple[CheckSection, ...]:
    """Bodies that a server of this project may be sent: those a call names, and those named so."""
    named = [(call.text("request_file"), call.folder) for call in calls]
    asked = [place / text for text, place in named if text and (place / text).is_file()]
    there = [
        path
        for place in (folder, folder.parent)
        for pattern in (_REQUESTS if place == folder else _REQUESTS[:1])
        for path in sorted(place.glob(pattern))
    ]
    kept = [path for path in dict.fromkeys(path.resolve() for path in (*asked, *there)) if _is_request(path)]
    return tuple(_check(path, folder) for path in kept[:_MAX_REQUESTS])


def _model_folders(folder: Path) -> Iterator[Path]:
    for place in (folder, folder.parent):
        for path in sorted(place.iterdir()):
            named = place == folder or path.name in _MODEL_FOLDERS
            if named and path.is_dir() and path != folder and not path.name.startswith(".") and models(path):
                yield path


def _is_model(path: Path) -> bool:
    return path.suffix in _MODELS or path.name == "saved_model.pb"


def _is_request(path: Path) -> bool:
    """Text of a format that servers take; JSON has "instances"."""
    if path.suffix not in _CONTENT_TYPES or path.name.endswith(_EXPECTED) or not path.is_file():
        return False
    if not 0 < path.stat().st_size <= _MAX_REQUEST:
        return False
    if path.suffix != ".json":
        return True
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get("instances"), list)


def _check(path: Path, folder: Path) -> CheckSection:
    expected = path.with_name(path.name.removesuffix(path.suffix) + _EXPECTED)
    return CheckSection(
        request=relative(path, folder),
        expect=relative(expected, folder) if expected.is_file() else None,
        content_type=_CONTENT_TYPES[path.suffix],
    )
