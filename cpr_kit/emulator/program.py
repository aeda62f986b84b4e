"""The emulator around a piece of a program: for notebooks, and for tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from cpr_kit.emulator.app import Emulator


@contextlib.contextmanager
def emulate(**options: Any) -> Iterator[Emulator]:
    """Within, this program's own Google Cloud calls go to an emulator; `options` are those of `Emulator`.

    gRPC reads the roots that it trusts once in a program's life: enter this before the first secure channel is made.
    All emulators of one program show the same authority, so that a second one is trusted as well.
    """
    with Emulator(**options) as emulator, environment(emulator.environment):
        yield emulator


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
