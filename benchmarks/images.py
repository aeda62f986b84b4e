"""The image of an iris project in upstream's spelling, made by google-cloud-aiplatform and by the kit.

Needs a container engine, and the SDK in the environment that runs this. The numbers are those of `cpr migrate
--compare`; beside them is the size of the kit and its server alone.
"""

import contextlib
import functools
import shutil
from pathlib import Path
from typing import Any

import servers
from environments import HERE, NotHere
from table import SKIPPED

from cpr_kit.build import image
from cpr_kit.config import Config
from cpr_kit.engine.choose import choose
from cpr_kit.errors import CprError, LackingError
from cpr_kit.migrate import comparison, project, sides, upstream
from cpr_kit.migrate.measure import Effort, Request

PROJECT = HERE / "apps" / "iris_project"
BASE = "python:3.11-slim"
SIDES = {"google": sides.Upstream, "cpr_kit": sides.Kit}
_BARE = "cpr-local/bench-bare:latest"
_NUMPY = ("/numpy/", "/numpy.libs/", "/numpy-")
_MEGABYTE = 10**6


def images(bench: Any, server: Any) -> dict[str, float]:
    """Raises NotHere with the reason. MB, seconds, requests a second; `installs` is 1 where a rebuild installed."""
    engine = docker()
    try:
        upstream.version()
        subject = described(bench)
        with sides.base(subject.config, engine, ignored) as base:
            figures = comparison.figures(SIDES[server.name], subject, engine, base, ignored)
            alone = {"alone": kit_alone(engine, base, Path(bench.scratch) / "bare")} if server.name == "cpr_kit" else {}
    except CprError as error:
        raise NotHere(f"{SKIPPED if isinstance(error, LackingError) else type(error).__name__}: {error}") from error
    return {
        "size": figures.size_mb,
        "added": figures.added_mb,
        "build": figures.build_s,
        "rebuild": figures.rebuild_s,
        "installs": float(figures.reinstalls),
        **({"start": figures.start_s} if figures.start_s else {}),
        **({"memory": figures.memory_mb} if figures.memory_mb else {}),
        **({"rate": figures.rate} if figures.rate else {}),
        **alone,
    }


@functools.cache
def docker() -> Any:
    try:
        return choose("docker").engine
    except LackingError as error:
        raise NotHere(f"{SKIPPED}: {error}") from error


def described(bench: Any) -> comparison.Subject:
    """The project with this run's model, which the container gets mounted."""
    folder = Path(bench.scratch) / "images"
    if not folder.exists():
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "requirements.txt").write_text("\n".join((*servers.SAME, "")))
    wanted = project.Wanted(base=BASE, artifacts=str(bench.models / "iris"))
    quick = bench.seconds < 2
    return comparison.Subject(
        config=project.read(folder, wanted).config,
        request=Request.read(bench.models / "iris" / "body.json"),
        effort=Effort.quick() if quick else Effort(seconds=bench.seconds),
        warm=not quick,
    )


def kit_alone(engine: Any, base: str, folder: Path) -> float:
    """MB that an image without any requirement adds, but for numpy, which any model brings itself."""
    folder.mkdir(exist_ok=True)
    (folder / "predictor.py").write_text(
        "from cpr_kit import Predictor\n\n\nclass Bare(Predictor):\n"
        "    def load(self, uri): ...\n\n    def predict(self, request): ...\n"
    )
    (folder / "cpr.toml").write_text(f'[model]\npredictor = "predictor:Bare"\n[image]\nbase = "{base}"\n')
    try:
        image.build(Config.read(folder, environ={}), engine, tag=_BARE)
        numpy = sum(len(content) for _, content in engine.files(_BARE, is_numpy))
        return (engine.image(_BARE).size - engine.image(base).size - numpy) / _MEGABYTE
    finally:
        with contextlib.suppress(CprError):
            engine.remove_image(_BARE)


def is_numpy(path: str) -> bool:
    return path.startswith("opt/cpr/") and any(name in path for name in _NUMPY)


def ignored(_line: str) -> None:
    pass
