"""The emulator around a piece of a program: for notebooks, and for tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpr_kit.errors import MissingExtra

if TYPE_CHECKING:
    from cpr_kit.emulator.app import Emulator
    from cpr_kit.emulator.console import Call
    from cpr_kit.emulator.settings import Settings
    from cpr_kit.engine.protocol import Engine


@contextlib.contextmanager
def emulate(
    *,
    port: int = 0,
    state: str | Path | None = None,
    engine: str | Engine | None = None,
    settings: Settings | None = None,
    project: str | None = None,
    allow_internet: bool = False,
    faults: str | Sequence[str] = (),
    show: Callable[[Call], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[Emulator]:
    """Within, this program's own Google Cloud calls go to an emulator.

    `port` is the one on 127.0.0.1, 0 for a free one. `state` is a file that keeps models, endpoints and objects;
    without it they are in memory. `engine` is "docker", "process" or "auto", or an engine of your own. `project` is
    that of calls that name none. `allow_internet` passes calls to hosts on that are not Google Cloud's. `faults` are
    texts as of `cpr emulate --fault`, or a single one. `settings` holds the behaviours of `cpr emulate --set`. `show`
    gets each call that was answered, `note` lines about anything else; both from other threads.

    Raises MissingExtra without the emulator's libraries, UsageError for a value that cannot be, and LackingError when
    no engine answers.

    gRPC reads the roots that it trusts once in a program's life: enter this before the first secure channel is made.
    All emulators of one program show the same authority, so that a second one is trusted as well.
    """
    with libraries():
        from cpr_kit.emulator.app import Emulator

    running = Emulator(
        port=port,
        state=state,
        engine=engine,
        settings=settings,
        project=project,
        allow_internet=allow_internet,
        faults=faults,
        show=show,
        note=note,
    )
    with running as emulator, environment(emulator.environment):
        yield emulator


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """Around an import of the emulator's modules. Raises MissingExtra where a library that they need is lacking."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "cpr_kit":
            raise
        raise MissingExtra(f"a library of the emulator's ({error.name})", "emulator") from error


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """`variables` in the environment of this program; afterwards it is as it was."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
