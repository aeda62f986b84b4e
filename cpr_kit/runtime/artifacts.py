"""A model's artifacts as a folder of this machine: AIP_STORAGE_URI in, a path out; and which files may run code.

Google Cloud Storage is read through its JSON API with the standard library: the platform's own client
would weigh 28 MB in the image and fetches one object after another.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any, BinaryIO

from cpr_kit.errors import StartError

SCHEME = "gs://"
_CHUNK = 1 << 20


def fetch(uri: str) -> Path:
    """The folder that holds the artifacts; a gs:// URI is downloaded once a container, and verified in each process.

    An empty URI is the working directory, where a model baked into the image lies. Raises StartError.
    """
    if uri.startswith(SCHEME):
        return _downloaded(uri)
    folder = Path(uri or ".").resolve()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise StartError(f"the artifact folder {folder} {what}", "name the folder that holds the model's files")
    return folder


def keep(uri: str) -> None:
    """For a process that will fork workers: what they fetch is not removed with a worker, but with this process."""
    if uri.startswith(SCHEME):
        from cpr_kit.runtime.storage import depot

        depot.keep()


@functools.cache
def _downloaded(uri: str) -> Path:
    from cpr_kit.runtime import startup
    from cpr_kit.runtime.storage import depot

    with startup.phase("download"):
        return depot.fetch(uri)


def choose(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of `names` that lies in `folder`. Raises StartError listing what lies there instead."""
    for name in names:
        if (folder / name).exists():
            return folder / name
    here = sorted(path.name for path in folder.iterdir())
    raise StartError(
        f"no model file in {folder}: it holds {', '.join(here) or 'nothing'}",
        f"put one of {', '.join(names)} there",
    )


def check_trust(path: Path, *, allowed: bool) -> None:
    """A pickle is code, so it loads only where its owner said so. Raises StartError saying how to say it."""
    if not allowed:
        raise StartError(
            f"{path.name} is a pickle, which runs code as it loads, and nothing says that it is trusted",
            "if you made this file, set trusted = true under [model] in cpr.toml (CPR_MODEL_TRUSTED=true in the "
            f'container), or trust this file alone: trusted_digests = ["{digest(path)}"] '
            "(CPR_MODEL_TRUSTED_DIGESTS); or save the model in a safe format",
        )


def trusts(path: Path, options: dict[str, Any]) -> bool:
    """Whether `load` was told to trust this file: by `allowed_extensions=`, as upstream has it, or `trusted=`, or the
    settings, which may also name the file's digest.
    """
    return _trusts_all(path, options) or (_may_be_pinned(options) and digest(path) in _pinned())


def unpickle(path: Path, options: dict[str, Any]) -> Any:
    """Load a joblib or pickle file that is trusted. Raises StartError when it is not, or when joblib is missing."""
    if _trusts_all(path, options):
        return _unpickled(path, path)
    # One open file for its digest and its loading: what is put under its name in between is not loaded.
    with path.open("rb") as file:
        check_trust(path, allowed=_may_be_pinned(options) and _digest(file) in _pinned())
        file.seek(0)
        return _unpickled(path, file)


def digest(path: Path) -> str:
    """`sha256:` and 64 hexadecimal digits: what `trusted_digests` lists."""
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: BinaryIO) -> str:
    import hashlib

    found = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        found.update(chunk)
    return f"sha256:{found.hexdigest()}"


def _trusts_all(path: Path, options: dict[str, Any]) -> bool:
    """Whether the file is trusted by its name or its place, whatever it holds."""
    from cpr_kit.runtime.settings import Settings

    allowed = options.get("allowed_extensions")
    if allowed is not None:
        return path.name.endswith(tuple(allowed))
    return bool(options.get("trusted", Settings.from_environ().trusted))


def _may_be_pinned(options: dict[str, Any]) -> bool:
    """What `load` was told stands above the settings."""
    return options.get("allowed_extensions") is None and "trusted" not in options


def _pinned() -> tuple[str, ...]:
    from cpr_kit.runtime.settings import Settings

    return Settings.from_environ().trusted_digests


def _unpickled(path: Path, source: Path | BinaryIO) -> Any:
    if path.suffix == ".pkl":
        import pickle

        with path.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source) as file:
            return pickle.load(file)  # noqa: S301  trusted: see above
    import joblib

    return joblib.load(source)
