"""A model's artifacts as a folder of this machine: AIP_STORAGE_URI in, a path out.

Google Cloud Storage is read through its JSON API with the standard library: the platform's own client
would weigh 28 MB in the image and is no faster at this.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from cpr_kit.errors import StartError

SCHEME = "gs://"


def fetch(uri: str) -> Path:
    """The folder that holds the artifacts; a gs:// URI is downloaded once a process.

    An empty URI is the working directory, where a model baked into the image lies. Raises StartError.
    """
    if uri.startswith(SCHEME):
        return _downloaded(uri)
    folder = Path(uri or ".").resolve()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise StartError(f"the artifact folder {folder} {what}", "name the folder that holds the model's files")
    return folder


@functools.cache
def _downloaded(uri: str) -> Path:
    import atexit
    import shutil
    import tempfile

    from cpr_kit.runtime import storage

    bucket, _, prefix = uri.removeprefix(SCHEME).partition("/")
    folder = Path(tempfile.mkdtemp(prefix="cpr-artifacts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    storage.download(bucket, prefix, folder)
    return folder


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
            "container); or save the model in a safe format",
        )


def trusts(path: Path, options: dict[str, Any]) -> bool:
    """Whether `load` was told to trust this file: by the settings, `trusted=`, or upstream's `allowed_extensions=`."""
    from cpr_kit.runtime.settings import Settings

    allowed = options.get("allowed_extensions")
    if allowed is not None:
        return path.name.endswith(tuple(allowed))
    return bool(options.get("trusted", Settings.from_environ().trusted))


def unpickle(path: Path, options: dict[str, Any]) -> Any:
    """Load a joblib or pickle file that is trusted. Raises StartError when it is not, or when joblib is missing."""
    check_trust(path, allowed=trusts(path, options))
    if path.suffix == ".pkl":
        import pickle

        with path.open("rb") as file:
            return pickle.load(file)  # noqa: S301  trusted: see above
    import joblib

    return joblib.load(path)
