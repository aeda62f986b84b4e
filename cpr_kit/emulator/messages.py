"""The API's messages as protobuf's own classes: `from cpr_kit.emulator.messages import Model`.

They are the installed SDK's. Importing the whole of `google.cloud.aiplatform_v1` takes two seconds, so its packages'
__init__ files are passed over here, which leaves the messages of the services that are served, and the transports;
where a program has imported the SDK already, that one is used.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.util
import sys
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import Any

from google.protobuf.message import Message

from cpr_kit.errors import MissingExtra

PACKAGE = "google.cloud.aiplatform_v1"
SERVICES = (
    "model_service",
    "endpoint_service",
    "prediction_service",
    "job_service",
    "deployment_resource_pool_service",
)
_TYPES = f"{PACKAGE}.types"


class _Kept(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules that were imported under a package that was passed over, for when it is imported in earnest.

    A descriptor is to have one class, so they are not to be run again; found in sys.modules, they would not become
    attributes of their package.
    """

    def __init__(self) -> None:
        self._modules: dict[str, types.ModuleType] = {}

    def take(self, name: str) -> None:
        self._modules[name] = sys.modules.pop(name)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, origin=self._modules[name].__file__) if name in self._modules else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return self._modules[spec.name]

    def exec_module(self, _module: types.ModuleType) -> None:
        """It has run."""


_kept = _Kept()


@contextlib.contextmanager
def bare_sdk() -> Iterator[None]:
    """Within, a module of `google.cloud.aiplatform_v1` imports what it needs alone. Raises MissingExtra without SDK."""
    if PACKAGE in sys.modules:
        yield
        return
    places = _places()
    _pass_over(PACKAGE, places)
    _pass_over(_TYPES, [f"{place}/types" for place in places])
    try:
        try:
            version = importlib.import_module(f"{PACKAGE}.gapic_version")
        except ImportError as error:
            raise MissingExtra("google-cloud-aiplatform", "emulator") from error
        sys.modules[PACKAGE].gapic_version = version  # type: ignore[attr-defined]
        yield
    finally:
        for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
            if name.startswith(f"{_TYPES}."):
                _kept.take(name)
            else:
                del sys.modules[name]


def transport(service: str, kind: str) -> types.ModuleType:
    """A service's generated transport ("grpc" or "rest_base"), within `bare_sdk` without its client."""
    name = f"{PACKAGE}.services.{service}"
    package = sys.modules[PACKAGE]
    if name not in sys.modules and not hasattr(package, "__file__"):
        places = [f"{place}/services/{service}" for place in package.__path__]
        _pass_over(name, places)
        _pass_over(f"{name}.transports", [f"{place}/transports" for place in places])
    return importlib.import_module(f"{name}.transports.{kind}")


def message(owner: Any) -> type[Message]:
    """The protobuf class behind a proto-plus class, or the class itself."""
    found: type[Message] = owner.pb() if hasattr(owner, "pb") else owner
    return found


def _places() -> list[str]:
    try:
        found = importlib.util.find_spec("google.cloud")
    except ImportError:
        return []
    return [f"{place}/aiplatform_v1" for place in (found and found.submodule_search_locations) or ()]


def _pass_over(name: str, path: list[str]) -> None:
    """An empty module in the package's place, so that its own __init__ does not run."""
    module = types.ModuleType(name)
    module.__path__ = path
    sys.modules[name] = module


def _find() -> dict[str, Any]:
    """The messages and enums of the services' modules, and of those that they import, by name."""
    with bare_sdk():
        for service in SERVICES:
            importlib.import_module(f"{_TYPES}.{service}")
        modules = [module for name, module in sys.modules.items() if name.startswith(f"{_TYPES}.")]
    return {name: getattr(module, name) for module in modules for name in module.__protobuf__.manifest}


_found = _find()


def __getattr__(name: str) -> Any:
    if name not in _found:
        raise AttributeError(f"the SDK's messages of {', '.join(SERVICES)} have no {name}")
    return message(_found[name])
