"""JSON to messages and back, as Google's front ends do it for REST (google.api.http, AIP-127)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from cpr_kit.emulator import masks
from cpr_kit.emulator.catalogue import Binding
from cpr_kit.emulator.errors import invalid_argument

_CAPITAL = re.compile(r"[A-Z]")
_SYSTEM = {
    *("alt", "key", "prettyPrint", "access_token", "fields", "quotaUser", "upload_protocol", "uploadType"),
    *("callback", "oauth_token"),
}
"""Parameters of every Google API, and those that begin with "$"."""
BETA, STABLE = "google.cloud.aiplatform.v1beta1.", "google.cloud.aiplatform.v1."


def read(
    binding: Binding, path: Mapping[str, str], query: Iterable[tuple[str, str]], body: bytes, *, beta: bool
) -> Any:
    """The request message of a REST call. A beta caller's fields that v1 does not know are passed over."""
    request = binding.method.request()
    try:
        if binding.body and body:
            target = request if binding.body == "*" else getattr(request, binding.body)
            _parse(orjson.loads(body), target, beta=beta)
        given: dict[str, Any] = {}
        for name, value in query:
            if not name.startswith("$") and name not in _SYSTEM:
                _put(given, request.DESCRIPTOR, name.split("."), value, beta=beta)
        _parse(given, request, beta=beta)
    except orjson.JSONDecodeError as error:
        raise invalid_argument(f"Invalid JSON payload received. {error}") from error
    except (json_format.ParseError, TypeError, ValueError, AttributeError) as error:
        raise invalid_argument(f"Invalid JSON payload received. {error}") from error
    for name, value in path.items():
        _set(request, name.split("."), value)
    return request


def write(message: Message, *, enums_as_numbers: bool, beta: bool) -> bytes:
    content = json_format.MessageToDict(message, use_integers_for_enums=enums_as_numbers)
    text = json.dumps(content)
    return (text.replace(STABLE, BETA) if beta else text).encode()


def to_beta(message: Any) -> Any:
    """An operation's messages under their names of v1beta1."""
    for part in (message.metadata, message.response):
        part.type_url = part.type_url.replace(STABLE, BETA)
    return message


def _set(message: Any, path: list[str], value: str) -> None:
    for name in path[:-1]:
        message = getattr(message, name)
    setattr(message, path[-1], value)


def _parse(content: Any, message: Any, *, beta: bool) -> None:
    """JSON into a message. A mask's paths may be in either case, which JSON's own form of a mask does not allow."""
    for name in list(content) if isinstance(content, dict) else ():
        field = _field(message.DESCRIPTOR, name)
        if field is not None and _is_mask(field) and isinstance(content[name], str):
            paths = masks.parse(content.pop(name)).paths
            getattr(message, field.name).paths.extend(_snake(path) for path in paths)
    json_format.ParseDict(content, message, ignore_unknown_fields=beta)


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    return descriptor.fields_by_camelcase_name.get(name) or descriptor.fields_by_name.get(name)


def _is_mask(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.FieldMask"


def _snake(path: str) -> str:
    return _CAPITAL.sub(lambda match: f"_{match[0].lower()}", path)


def _put(given: dict[str, Any], descriptor: Descriptor, path: list[str], value: str, *, beta: bool) -> None:
    """A query parameter as JSON: nested, repeated, and of the field's type."""
    name, *rest = path
    field = _field(descriptor, name)
    if field is None:
        if beta:
            return
        raise ValueError(f'Unknown name "{name}": Cannot bind query parameter.')
    if rest and field.message_type is not None:
        _put(given.setdefault(field.name, {}), field.message_type, rest, value, beta=beta)
    elif field.is_repeated:
        given.setdefault(field.name, []).append(_typed(field, value))
    else:
        given[field.name] = _typed(field, value)


def _typed(field: FieldDescriptor, value: str) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {"true": True, "false": False}.get(value.lower(), value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and value.isdigit():
        return int(value)
    return value
