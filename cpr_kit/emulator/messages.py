"""The API's messages as protobuf's own classes: `from cpr_kit.emulator.messages import Model`.

They are the installed SDK's. Importing the whole of `google.cloud.aiplatform_v1` takes two seconds, so its packages'
__init__ files are passed over here, which leaves the messages and the transports; where a program has imported the
SDK already, that one is used.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from cpr_kit.errors import MissingExtra

PACKAGE = "google.cloud.aiplatform_v1"


@contextlib.contextmanager
def bare_sdk() -> Iterator[None]:
    """Within, `import google.cloud.aiplatform_v1.types` imports the messages alone. Raises MissingExtra without SDK."""
    if PACKAGE in sys.modules:
        yield
        return
    _pass_over(PACKAGE, _places())
    try:
        try:
            version = importlib.import_module(f"{PACKAGE}.gapic_version")
        except ImportError as error:
            raise MissingExtra("google-cloud-aiplatform", "emulator") from error
        sys.modules[PACKAGE].gapic_version = version  # type: ignore[attr-defined]
        yield
    finally:
        for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.services")]:
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


with bare_sdk():
    _types = importlib.import_module(f"{PACKAGE}.types")


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return message(getattr(_types, name))
