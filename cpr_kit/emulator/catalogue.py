"""Every call of the API, read from the installed SDK: its gRPC methods with their messages, and its REST bindings.

The SDK's generated transports name both, so nothing of the API's definition is kept here, and a newer SDK brings its
newer fields by itself.
"""

from __future__ import annotations

import re
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from cpr_kit.emulator.messages import SERVICES, bare_sdk, message, transport

_VARIABLE = re.compile(r"\{([\w.]+)(?:=([^}]+))?\}")


@dataclass(frozen=True)
class Method:
    """One call. `name` is "ModelService.UploadModel"; the messages are protobuf's own classes."""

    name: str
    request: type[Message]
    response: type[Message]
    client_streams: bool = False
    server_streams: bool = False

    @property
    def short(self) -> str:
        return self.name.partition(".")[2]


@dataclass(frozen=True)
class Binding:
    """One way to reach a method over REST: `body` is "*", the field that the body is, or "" without one."""

    method: Method
    pattern: re.Pattern[str]
    fields: tuple[str, ...]
    body: str


@dataclass(frozen=True)
class Catalogue:
    """`methods` by gRPC path without version: "ModelService/UploadModel"."""

    methods: Mapping[str, Method]
    bindings: Mapping[str, tuple[Binding, ...]]

    def find(self, verb: str, path: str) -> tuple[Binding, dict[str, str]] | None:
        """The binding of a REST call, `path` without its version, and the fields that the path carries."""
        for binding in self.bindings.get(verb, ()):
            match = binding.pattern.fullmatch(path)
            if match:
                return binding, dict(zip(binding.fields, match.groups(), strict=True))
        return None

    def verbs(self, path: str) -> list[str]:
        """The HTTP methods that a path takes."""
        return [verb for verb in self.bindings if self.find(verb, path)]


def load() -> Catalogue:
    methods: dict[str, Method] = {}
    bindings: dict[str, list[Binding]] = defaultdict(list)
    with bare_sdk():
        for service in SERVICES:
            methods.update(_methods(transport(service, "grpc")))
            _bind(transport(service, "rest_base"), methods, bindings)
    return Catalogue(methods, {verb: tuple(found) for verb, found in bindings.items()})


class _Recorder:
    """Stands where the transport has its channel, and hears what is called and with which messages."""

    def __init__(self) -> None:
        self.found: list[tuple[str, Method]] = []

    def _note(self, path: str, serialize: Callable[..., Any], parse: Callable[..., Any], streams: str) -> None:
        _, full, call = path.split("/")
        service = full.rpartition(".")[2]
        method = Method(
            f"{service}.{call}",
            message(serialize.__self__ if hasattr(serialize, "__self__") else serialize),
            message(parse.__self__ if hasattr(parse, "__self__") else parse),
            client_streams=streams.startswith("stream"),
            server_streams=streams.endswith("stream"),
        )
        self.found.append((f"{service}/{call}", method))

    def __getattr__(self, streams: str) -> Callable[..., None]:
        def note(path: str, *, request_serializer: Any, response_deserializer: Any, **_: Any) -> None:
            if path.startswith("/google.cloud.aiplatform."):
                self._note(path, request_serializer, response_deserializer, streams)

        return note


def _methods(module: types.ModuleType) -> Iterator[tuple[str, Method]]:
    kind = next(
        value
        for name, value in vars(module).items()
        if name.endswith("GrpcTransport") and value.__module__ == module.__name__
    )
    recorder = _Recorder()
    instance = object.__new__(kind)
    instance._stubs = {}
    instance._logged_channel = instance._grpc_channel = recorder
    for name, value in vars(kind).items():
        if isinstance(value, property) and name not in ("grpc_channel", "operations_client", "kind"):
            getattr(instance, name)
    yield from recorder.found


def _bind(module: types.ModuleType, methods: Mapping[str, Method], bindings: dict[str, list[Binding]]) -> None:
    kind = next(
        value
        for name, value in vars(module).items()
        if name.endswith("RestTransport") and value.__module__ == module.__name__
    )
    service = kind.__name__.removeprefix("_Base").removesuffix("RestTransport")
    for name, value in vars(kind).items():
        call = name.removeprefix("_Base")
        method = methods.get(f"{service}/{call}")
        options = getattr(value, "_get_http_options", None)
        if method is None or options is None:
            continue
        for option in options():
            version, path = option["uri"].lstrip("/").split("/", 1)
            if version in ("v1", "v1beta1"):
                pattern, fields = template(f"/{path}")
                bindings[option["method"].upper()].append(Binding(method, pattern, fields, option.get("body", "")))


def template(text: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """A path of google.api.http as a regular expression, and the fields in its groups.

    >>> pattern, fields = template("/{name=projects/*/locations/*/models/*}:export")
    >>> fields, pattern.fullmatch("/projects/p/locations/l/models/m:export").groups()
    (('name',), ('projects/p/locations/l/models/m',))
    """
    fields, parts, last = [], [], 0
    for match in _VARIABLE.finditer(text):
        parts.append(re.escape(text[last : match.start()]))
        parts.append("(" + "/".join(_segment(part) for part in (match[2] or "*").split("/")) + ")")
        fields.append(match[1])
        last = match.end()
    parts.append("/".join(_segment(part) for part in text[last:].split("/")))
    return re.compile("".join(parts)), tuple(fields)


def _segment(part: str) -> str:
    # An id holds no colon: what follows one is the call.
    return {"*": "[^/:]+", "**": ".+"}.get(part, re.escape(part))
