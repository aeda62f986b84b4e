"""An image as google-cloud-aiplatform makes it: its own `build_cpr_model`, in a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import shutil
import sys
import time
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cpr_kit.engine import builder, causes, command
from cpr_kit.engine.progress import Steps
from cpr_kit.engine.protocol import Output
from cpr_kit.errors import BuildError, LackingError, UsageError

SDK = "google-cloud-aiplatform"
_NEEDS = (SDK, "docker", "fastapi")
_DEBIAN_CLIENT = "/usr/bin/docker"
_ORDER, _DONE = "order.json", "done.json"


@dataclass(frozen=True, kw_only=True)
class Order:
    """The arguments of `build_cpr_model`; classes are written `module:Class`, paths are absolute."""

    src_dir: str
    output_image_uri: str
    predictor: str | None = None
    handler: str | None = None
    base_image: str = "python:3.10"
    requirements_path: str | None = None
    extra_packages: tuple[str, ...] = ()
    no_cache: bool = False
    platform: str | None = None


def version() -> str:
    """The installed SDK's. Raises LackingError where it, or what its `prediction` extra brings, is missing."""
    try:
        versions = [importlib.metadata.version(name) for name in _NEEDS]
    except importlib.metadata.PackageNotFoundError as error:
        raise LackingError(
            f"{error.name} is not installed here, and the SDK builds the image to compare with; "
            f'run: pip install "{SDK}[prediction]"'
        ) from error
    return versions[0]


def build(order: Order, folder: Path, output: Output, environ: Mapping[str, str] = os.environ) -> float:
    """Seconds that the SDK took. `folder` is an empty one to talk through. Raises BuildError, UsageError."""
    (folder / _ORDER).write_text(json.dumps(asdict(order)))
    steps = Steps()

    def relay(line: str) -> None:
        steps.feed(line)
        output(line)

    argv = [sys.executable, "-c", "from cpr_kit.migrate.upstream import main; main()"]
    code = command.stream(argv, relay, env=_environment(environ), cwd=folder)
    done = json.loads((folder / _DONE).read_text()) if (folder / _DONE).exists() else {}
    if "refused" in done:
        raise UsageError(f"{SDK} refuses the project: {done['refused']}")
    if code:
        error = steps.error()
        raise causes.explained(BuildError(f"{SDK}'s {error.step}", error.tail), platform=order.platform)
    return float(done["seconds"])


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The SDK runs the `docker` of the PATH: that is the client, and the builder, which the kit itself uses here."""
    chosen = builder.find(None, environ)
    client = chosen.command[0] if chosen.command else shutil.which("docker") or shutil.which(_DEBIAN_CLIENT)
    if client is None:
        raise LackingError(f"{SDK} builds with docker's command line client, which is not here; install it")
    return {
        **environ,
        "PATH": os.pathsep.join([str(Path(client).parent), environ.get("PATH", os.defpath)]),
        "DOCKER_BUILDKIT": "1" if chosen.command else "0",
        "BUILDKIT_PROGRESS": "plain",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [environ.get("PYTHONPATH")])]),
    }


def main() -> None:
    """The process: reads the order, builds, says how long that took. Only the build is timed, not the import."""
    from google.cloud.aiplatform.docker_utils.errors import DockerError
    from google.cloud.aiplatform.prediction import LocalModel

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    order = Order(**json.loads(Path(_ORDER).read_text()))
    arguments = {name: value for name, value in asdict(order).items() if value is not None}
    for kind in ("predictor", "handler"):
        if kind in arguments:
            arguments[kind] = _stand_in(arguments[kind], Path(order.src_dir))
    done: dict[str, float | str] = {}
    began = time.monotonic()
    try:
        LocalModel.build_cpr_model(**arguments)
        done["seconds"] = time.monotonic() - began
    except DockerError:
        sys.exit(1)
    except ValueError as error:
        done["refused"] = str(error)
    Path(_DONE).write_text(json.dumps(done))


def _stand_in(name: str, folder: Path) -> type[object]:
    """An empty class of that name and file, which is all that the SDK looks at: the user's code is not imported."""
    module, _, cls = name.partition(":")
    stem = folder.joinpath(*module.split("."))
    file = stem / "__init__.py" if stem.is_dir() else stem.with_name(f"{stem.name}.py")
    home = types.ModuleType(f"cpr_kit_stand_in.{module}")
    home.__file__ = str(file)
    sys.modules[home.__name__] = home
    return type(cls, (), {"__module__": home.__name__})
