"""The fixtures `local_endpoint` and `vertex`, for the tests of anyone who has the kit installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cpr_kit.compat.local_model import LocalModel
    from cpr_kit.emulator.app import Emulator
    from cpr_kit.harness.endpoint import LocalEndpoint

Start = Callable[..., "LocalEndpoint"]


@pytest.fixture
def local_endpoint() -> Iterator[Start]:
    """Start a folder, an image, a ContainerSpec or a LocalModel; all are stopped when the test ends.

    `local_endpoint("iris/")` builds first. `engine=` chooses the engine, other options are those of
    `LocalModel.deploy_to_local_endpoint`.
    """
    with ExitStack() as running:

        def start(target: Any, *, engine: Any = None, **options: Any) -> LocalEndpoint:
            return running.enter_context(_model(target, engine).deploy_to_local_endpoint(**options))

        yield start


@pytest.fixture
def vertex() -> Iterator[Emulator]:
    """Vertex AI on this machine for one test: the calls of google-cloud-aiplatform and google-cloud-storage go to it.

    Build images before it is asked for: within, package indexes are out of reach like every other host.
    """
    from cpr_kit.emulator.program import emulate

    with emulate() as emulator:
        yield emulator


def _model(target: Any, engine: Any) -> LocalModel:
    from cpr_kit.compat.local_model import LocalModel

    if isinstance(target, LocalModel):
        return target
    if not isinstance(target, str | Path):
        return LocalModel(target, engine=engine)
    if Path(target).is_dir():
        return LocalModel.build(target, engine=engine)
    return LocalModel(serving_container_image_uri=str(target), engine=engine)
