"""The file that a prebuilt image loads: fixed names, looked for before anything is copied or deployed.

"Export model artifacts for prediction" has the names; the SDK's Model.upload has the same.
"""

from __future__ import annotations

from pathlib import Path

from cpr_kit.errors import ConfigError
from cpr_kit.prebuilt.catalogue import Framework, Prebuilt

_SHOWN = 6


def check(prebuilt: Prebuilt, artifacts: str | None) -> None:
    """Raises ConfigError for artifacts that the image cannot load; what is at gs:// is not looked at."""
    if artifacts is None:
        raise ConfigError(
            f"[model] artifacts is missing; {prebuilt.name} has no model of its own: name the folder, or the gs:// "
            f"URI, that has {_names(prebuilt.framework)}"
        )
    if artifacts.startswith("gs://"):
        _check_uri(prebuilt, artifacts)
        return
    if fault := missing(prebuilt.framework, Path(artifacts).expanduser()):
        raise ConfigError(f"{prebuilt.name} cannot load {artifacts}: {fault}")


def missing(framework: Framework, folder: Path) -> str | None:
    """Why a folder is not what the framework's images load, and what to do; None where it is."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        return f"it {what}; name the folder that has {_names(framework)}"
    if any((folder / name).is_file() for name in framework.files):
        return None
    inside = sorted(each.name for each in folder.iterdir())
    for name in inside:
        if name.isascii() and name.isdecimal() and any((folder / name / file).is_file() for file in framework.files):
            return (
                f"the model is in its folder {name}, as TensorFlow Serving wants it; a prebuilt image wants "
                f"{_names(framework)} directly: name {folder / name}"
            )
    alike = [name for name in inside if Path(name).suffix in {Path(file).suffix for file in framework.files}]
    if alike:
        return f"it has {', '.join(alike[:_SHOWN])}, and the image loads {_names(framework)} alone; rename the file"
    found = ", ".join(inside[:_SHOWN]) + (", ..." if len(inside) > _SHOWN else "")
    return f"it has no {_names(framework)}; it has {found or 'nothing'}"


def _check_uri(prebuilt: Prebuilt, uri: str) -> None:
    """A URI names the folder ("artifactUri is a directory"); the file in it is a usual mistake."""
    folder, _, last = uri.rstrip("/").rpartition("/")
    if last in prebuilt.framework.files:
        raise ConfigError(f"[model] artifacts is {uri}, which is the file; name its folder: {folder}/")


def _names(framework: Framework) -> str:
    return " or ".join(framework.files)
