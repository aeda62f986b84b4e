"""A SavedModel as it lies on disk, read without TensorFlow.

Its layout is that of TensorFlow's "Using the SavedModel format"; folders named by a number above it are TensorFlow
Serving's versions, of which it serves the highest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpr_kit.errors import ConfigError
from cpr_kit.savedmodel import messages
from cpr_kit.savedmodel.signatures import DTYPES, Signature, Tensor, listed, shown

FILE = "saved_model.pb"
WARMUP = "assets.extra/tf_serving_warmup_requests"
_SERVE = "serve"
_LARGEST = (1 << 31) - 1  # a protobuf message cannot be larger
_MAX_RANK = 254  # of TensorShape in TensorFlow
_SOME = 8
_LONGEST_VERSION = 18  # digits, so that it is an int64 as TensorFlow Serving reads it


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """`path` is the folder that holds saved_model.pb; `versions` are the numbered folders beside it, lowest first."""

    path: Path
    signatures: Mapping[str, Signature]
    tags: tuple[str, ...]
    tensorflow_version: str
    versions: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    has_warmup: bool = False


def is_model(folder: Path) -> bool:
    """Whether `read` would find a SavedModel there, whole or not."""
    return (folder / FILE).exists() or any((folder / name / FILE).exists() for name in versions(folder))


def versions(folder: Path) -> tuple[str, ...]:
    """The folders whose names are version numbers, lowest first."""
    try:
        names = [path.name for path in folder.iterdir() if _is_version(path.name) and path.is_dir()]
    except OSError:
        return ()
    return tuple(sorted(names, key=lambda name: (int(name), name)))


def read(path: str | Path) -> SavedModel:
    """The SavedModel of a folder: of itself, or of its highest version. Raises ConfigError with path and reason."""
    folder, found = _folder(path)
    message = _message(folder / FILE)
    graph = _served(message, folder)
    try:
        signatures = {
            name: _signature(name, value)
            for name, value in sorted(graph.signature_def.items())
            if not name.startswith("__")  # TensorFlow's own, such as __saved_model_init_op
        }
    except ValueError as error:
        raise ConfigError(f"{folder / FILE} is no whole SavedModel: {error}; export the model again") from None
    return SavedModel(
        path=folder,
        signatures=signatures,
        tags=tuple(sorted(graph.meta_info_def.tags)),
        tensorflow_version=graph.meta_info_def.tensorflow_version,
        versions=found,
        assets=tuple(sorted(asset.filename for asset in graph.asset_file_def)),
        has_warmup=(folder / WARMUP).is_file(),
    )


def graph_def(model: SavedModel) -> bytes:
    """The GraphDef of the graph that `read` read. Raises ConfigError."""
    content: bytes = _served(_message(model.path / FILE), model.path).graph_def
    return content


def _folder(path: str | Path) -> tuple[Path, tuple[str, ...]]:
    if str(path).startswith(("gs://", "gs:/")):
        uri = "gs://" + str(path).partition(":")[2].lstrip("/")
        raise ConfigError(f"{uri} is in a bucket; fetch it first: gcloud storage cp -r {uri} . and name that folder")
    folder = Path(path)
    if folder.name == FILE and folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ConfigError(f"{folder} {what}; name the folder that holds {FILE}")
    if (folder / FILE).exists():
        siblings = versions(folder.absolute().parent) if _is_version(folder.absolute().name) else ()
        return folder, siblings
    found = versions(folder)
    if found and (folder / found[-1] / FILE).exists():
        return folder / found[-1], found
    raise ConfigError(_nothing(folder, found))


def _nothing(folder: Path, found: tuple[str, ...]) -> str:
    if found:
        return (
            f"the highest version in {folder} is {found[-1]}, and it holds no {FILE}; TensorFlow Serving would wait "
            "for it: export the model into that folder, or remove it"
        )
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    for name in names:
        if name in {"saved_model.pbtxt", "saved_model.cpb"}:
            return f"{folder} holds {name}, a form that is not read here; export the model again as {FILE}"
        if name.endswith((".keras", ".h5")):
            return f'{folder} holds {name}, which no server reads; load it in Keras and call model.export("{folder}")'
    if below := [name for name in names if is_model(folder / name)]:
        return f"{folder} holds no {FILE} itself, and {listed(below)} in it does; name that folder"
    holds = ", ".join(map(shown, names[:_SOME])) + (", ..." if len(names) > _SOME else "")
    return f"{folder} holds no {FILE} and no version folder such as 1/ with one; it holds {holds or 'nothing'}"


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) <= _LONGEST_VERSION


def _message(path: Path) -> Any:
    message = messages.new("SavedModel")
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ConfigError(f"{path} is no file; export the model again")
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise ConfigError(f"{path} has {size} bytes, and a SavedModel at most {_LARGEST}; is it another file?")
        message.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except DecodeError:
        raise ConfigError(f"{path} is no SavedModel, or not a whole one; export or copy the model again") from None
    return message


def _served(message: Any, folder: Path) -> Any:
    """The graph that a server loads: the one whose tags are {serve}."""
    graphs = {tuple(sorted(graph.meta_info_def.tags)): graph for graph in message.meta_graphs}
    if (_SERVE,) in graphs:
        return graphs[_SERVE,]
    for tags, graph in graphs.items():
        if _SERVE in tags:
            return graph
    if not graphs:
        raise ConfigError(f"{folder / FILE} holds no graph: it is empty, or no SavedModel; export the model again")
    has = listed(tag for tags in graphs for tag in tags) or "none"
    raise ConfigError(f'{folder / FILE} has no graph with the tag "{_SERVE}", which a server loads; its tags: {has}')


def _signature(name: str, message: Any) -> Signature:
    def tensors(infos: Any) -> dict[str, Tensor]:
        return {key: _tensor(key, info, optional=key in message.defaults) for key, info in sorted(infos.items())}

    return Signature(
        name=name, method=message.method_name, inputs=tensors(message.inputs), outputs=tensors(message.outputs)
    )


def _tensor(name: str, info: Any, *, optional: bool) -> Tensor:
    """Raises ValueError for a shape that no tensor has."""
    sizes = [dim.size for dim in info.tensor_shape.dim]
    if len(sizes) > _MAX_RANK or any(size < -1 for size in sizes):
        raise ValueError(f'"{shown(name)}" has an impossible shape')
    # Without a shape at all the rank is unknown too; a scalar's shape is there and empty.
    known = info.HasField("tensor_shape") and not info.tensor_shape.unknown_rank
    return Tensor(
        name=name,
        dtype=DTYPES.get(info.dtype, f"type {info.dtype}"),
        shape=tuple(None if size == -1 else size for size in sizes) if known else None,
        optional=optional,
        dense=not (info.coo_sparse or info.composite_tensor),
    )
