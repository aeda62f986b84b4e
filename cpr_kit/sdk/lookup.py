"""Names of a module that are fetched when they are asked for: its submodules, and what lies in another room."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from cpr_kit.sdk.finder import absence


def attribute(module: str, name: str, submodules: Iterable[str], elsewhere: Mapping[str, str] | None = None) -> Any:
    """For a module's `__getattr__`. `elsewhere` says where a name is really defined. Raises AttributeError."""
    if name in submodules:
        return importlib.import_module(f"{module}.{name}")
    if elsewhere and name in elsewhere:
        return getattr(importlib.import_module(elsewhere[name]), name)
    if name.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    raise AttributeError(absence(f"{module}.{name}"))
