"""Finds the kit's counterparts of google.cloud.aiplatform's prediction names, where the SDK is not installed.

Images hold a copy of this file, which Python imports whenever it starts there. So it imports next to nothing, and of
the kit nothing at all before one of the names is asked for.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `typing` would be the largest part of the cost
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SDK = "google.cloud.aiplatform"
_NAMESPACES = ("google", "google.cloud")
_OURS = "cpr-kit"


class SdkNames:
    """Python asks it last: what is installed, the SDK above all, comes first."""

    @staticmethod
    def find_spec(
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG004  the signature is Python's
        target: ModuleType | None = None,  # noqa: ARG004
    ) -> ModuleSpec | None:
        """Raises ImportError for what is only in the SDK, when it is looked for in the kit's counterpart."""
        if fullname != "google" and not fullname.startswith("google."):
            return None
        if fullname.startswith(f"{SDK}."):
            if _is_ours(SDK):
                raise ImportError(absence(fullname), name=fullname)
            return None
        return _installed_since(fullname) or _made(fullname)


def install() -> None:
    """Have Python ask. Safe to call again, also from a copy of this file."""
    if not any(getattr(finder, "__name__", "") == SdkNames.__name__ for finder in sys.meta_path):
        sys.meta_path.append(SdkNames)


def absence(name: str) -> str:
    """What to say of a name that only the SDK has."""
    return (
        f"{name} is not here: this image has the kit's counterparts of {SDK}.prediction and no SDK; to have it, "
        "name google-cloud-aiplatform in requirements.txt and set sdk = true under [image] in cpr.toml"
    )


def _made(name: str) -> ModuleSpec | None:
    from importlib.machinery import ModuleSpec

    if name in _NAMESPACES:
        return ModuleSpec(name, None, origin=_OURS, loader_state=_OURS, is_package=True)
    return _tree() if name == SDK else None


def _tree() -> ModuleSpec | None:
    """The folder `aiplatform` beside this file, in the kit that is installed; below it Python finds its own way."""
    from importlib.util import find_spec, spec_from_file_location

    kit = find_spec("cpr_kit")
    if kit is None or not kit.submodule_search_locations:
        return None
    folder = f"{next(iter(kit.submodule_search_locations))}/sdk/aiplatform"
    spec = spec_from_file_location(SDK, f"{folder}/__init__.py", submodule_search_locations=[folder])
    if spec is not None:
        spec.loader_state = _OURS
    return spec


def _installed_since(name: str) -> ModuleSpec | None:
    """What sys.path brings by now below a namespace of ours, made when it brought nothing there."""
    above = name.rpartition(".")[0]
    if not above or not _is_ours(above):
        return None
    from importlib.machinery import PathFinder

    return PathFinder.find_spec(name, _folders(above))


def _folders(namespace: str) -> list[str]:
    """Where a namespace has its modules. One of ours looks again, and from now on has what it finds."""
    from importlib.machinery import PathFinder

    module = sys.modules[namespace]
    if _is_ours(namespace):
        above = namespace.rpartition(".")[0]
        spec = PathFinder.find_spec(namespace, _folders(above) if above else None)
        module.__path__ = list((spec and spec.submodule_search_locations) or ())
    return list(module.__path__)


def _is_ours(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return getattr(spec, "loader_state", None) == _OURS
