"""OpenMP and BLAS held to few threads, for models whose library takes no such parameter."""

from __future__ import annotations

import threading
from typing import Any


class Limit:
    """Holds the libraries that are loaded now to `count` threads; None holds nothing.

    OpenMP keeps its limit for each calling thread, so whoever predicts says `enter()` first; a second time costs
    nothing. A team of one uses no pool, which is why a model held to one thread also answers after a fork.
    """

    def __init__(self, count: int | None) -> None:
        self._count = count
        self._libraries = [] if count is None else _loaded()
        self._entered = threading.local()

    def enter(self) -> None:
        if hasattr(self._entered, "yes"):
            return
        for library in self._libraries:
            library.set_num_threads(self._count)
        self._entered.yes = True


def _loaded() -> list[Any]:
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().lib_controllers)
