"""Field masks: which fields an update changes (AIP-134), and which fields an answer shows (AIP-157, AIP-161)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from cpr_kit.emulator.errors import ApiError, invalid_argument

_ALL = "*"
_SEGMENT = re.compile(r"`([^`]*)`|([^.`]+)")
_PLAIN_KEY = re.compile(r"[^.,`]+")


@dataclass(frozen=True)
class _Path:
    """A path into a message: its fields from the outermost to the last one, and a key where that one is a map."""

    fields: tuple[FieldDescriptor, ...]
    key: str | None = None

    def __str__(self) -> str:
        names = ".".join(field.name for field in self.fields)
        if self.key is None:
            return names
        return f"{names}.{self.key}" if _PLAIN_KEY.fullmatch(self.key) else f"{names}.`{self.key}`"


def parse(text: str) -> FieldMask:
    """The `updateMask` and `readMask` of a REST call: paths with commas between them."""
    paths = [path.strip() for path in re.findall(r"(?:`[^`]*`|[^,])+", text)]
    return FieldMask(paths=[path for path in paths if path])


def apply(target: Message, change: Message, mask: FieldMask | None, *, allowed: Collection[str]) -> list[str]:
    """Copy the masked fields of `change` into `target`; the paths whose values are others now, in snake_case.

    Maps and repeated fields are replaced as a whole, a map's key by `labels.KEY`. No mask means the allowed fields
    that `change` has (AIP-134), `*` all allowed fields. A field that is not allowed is refused, and then nothing has
    changed; one above allowed fields (`dedicated_resources`) is taken as long as the others below it stay as they are.
    """
    paths = _update_paths(target, change, mask, allowed)
    draft = type(target)()
    draft.CopyFrom(target)
    for path in paths:
        _copy(path, change, draft)
    changed = [str(path) for path in paths if _value(path, draft) != _value(path, target)]
    target.CopyFrom(draft)
    return list(dict.fromkeys(changed))


def read(message: Message, mask: FieldMask | None) -> Message:
    """The message with the masked fields alone; without a mask, or with `*`, the message itself."""
    if mask is None or not mask.paths or _ALL in mask.paths:
        return message
    shown = type(message)()
    for text in mask.paths:
        path = _resolve(message.DESCRIPTOR, text, "read mask")
        if _present(path, message):
            _copy(path, message, shown)
    return shown


def _update_paths(target: Message, change: Message, mask: FieldMask | None, allowed: Collection[str]) -> list[_Path]:
    permitted = {text: _resolve(target.DESCRIPTOR, text, "list of allowed fields") for text in sorted(allowed)}
    if mask is None or not mask.paths:
        return [path for path in permitted.values() if _present(path, change)]
    if _ALL in mask.paths:
        if len(mask.paths) > 1:
            raise invalid_argument(f'The update mask "{", ".join(mask.paths)}" has other paths beside "*".')
        return list(permitted.values())
    paths: list[_Path] = []
    for text in mask.paths:
        path = _resolve(target.DESCRIPTOR, text, "update mask")
        below = [other for name, other in permitted.items() if name.startswith(f"{path}.")]
        if _covered(str(path), allowed):
            paths.append(path)
        elif below and path.key is None:
            _refuse_other_changes(path, target, change, allowed)
            paths += below
        else:
            raise _immutable(str(path), target.DESCRIPTOR, allowed)
    return paths


def _covered(path: str, allowed: Collection[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in allowed)


def _immutable(path: str, message: Descriptor, allowed: Collection[str]) -> ApiError:
    return invalid_argument(
        f'The field "{path}" of {message.name} cannot be updated; these can be: {", ".join(sorted(allowed))}.'
    )


def _refuse_other_changes(path: _Path, target: Message, change: Message, allowed: Collection[str]) -> None:
    """Below a masked field, only the allowed fields may differ from what is there."""
    for found in _leaves(path.fields, change, allowed):
        if not _covered(str(found), allowed) and _value(found, change) != _value(found, target):
            raise _immutable(str(found), target.DESCRIPTOR, allowed)


def _leaves(fields: tuple[FieldDescriptor, ...], message: Message, allowed: Collection[str]) -> Iterator[_Path]:
    """What is set below a field, no deeper than the allowed paths tell apart."""
    inside = _descend(fields, message)
    for field, _ in inside.ListFields() if inside is not None else ():
        below = (*fields, field)
        text = str(_Path(below))
        if any(name.startswith(f"{text}.") for name in allowed) and _is_single_message(field):
            yield from _leaves(below, message, allowed)
        else:
            yield _Path(below)


def _resolve(message: Descriptor, text: str, what: str) -> _Path:
    """A path's fields, each named in snake_case or camelCase; a key may stand in backquotes (AIP-161)."""
    fields: list[FieldDescriptor] = []
    segments = _segments(text, what)
    inside: Descriptor | None = message
    for index, segment in enumerate(segments):
        if inside is None:
            owner = fields[-1]
            if _is_map(owner) and index == len(segments) - 1 and _key_is_text(owner):
                return _Path(tuple(fields), segment)
            raise invalid_argument(f'The {what} has the path "{text}", but "{owner.name}" has no fields to name.')
        field = _field(inside, segment)
        if field is None:
            raise invalid_argument(f'The {what} has the path "{text}", but {inside.name} has no field "{segment}".')
        fields.append(field)
        inside = field.message_type if _is_single_message(field) else None
    return _Path(tuple(fields))


def _segments(text: str, what: str) -> list[str]:
    segments, at = [], 0
    while match := _SEGMENT.match(text, at):
        segments.append(match[1] if match[1] is not None else match[2])
        at = match.end()
        if at == len(text):
            return segments
        if text[at] != ".":
            break
        at += 1
    raise invalid_argument(f'The {what} has "{text}", which is no path of field names with dots between them.')


def _field(message: Descriptor, name: str) -> FieldDescriptor | None:
    by_name: FieldDescriptor | None = message.fields_by_name.get(name)
    return by_name or next((field for field in message.fields if field.json_name == name), None)


def _copy(path: _Path, source: Message, target: Message) -> None:
    """Make the field of `target` what it is in `source`, which may be unset."""
    origin = _descend(path.fields[:-1], source)
    filled = origin is not None and (path.key is not None or _is_set(path.fields[-1], origin))
    if not filled and _descend(path.fields[:-1], target) is None:
        return  # nothing to clear, and a message above it must not come to be
    into: Any = target
    for field in path.fields[:-1]:
        into = getattr(into, field.name)
    if path.key is not None:
        _copy_key(path.fields[-1], path.key, origin, into)
        return
    name = path.fields[-1].name
    into.ClearField(name)
    if not filled:
        return
    value = getattr(origin, name)
    if _is_repeated(path.fields[-1]):
        getattr(into, name).MergeFrom(value)
    elif path.fields[-1].message_type is not None:
        getattr(into, name).CopyFrom(value)
    else:
        setattr(into, name, value)


def _copy_key(field: FieldDescriptor, key: str, origin: Message | None, into: Message) -> None:
    source = getattr(origin, field.name) if origin is not None else {}
    target = getattr(into, field.name)
    if key not in source:
        target.pop(key, None)
    elif field.message_type.fields_by_name["value"].message_type is not None:
        target[key].CopyFrom(source[key])
    else:
        target[key] = source[key]


def _descend(fields: tuple[FieldDescriptor, ...], message: Message) -> Message | None:
    """The message below, or None where one on the way is not set."""
    inside: Any = message
    for field in fields:
        if not inside.HasField(field.name):
            return None
        inside = getattr(inside, field.name)
    return inside


def _value(path: _Path, message: Message) -> object:
    """A value to compare: None for what is not set."""
    inside = _descend(path.fields[:-1], message)
    if inside is None or not _is_set(path.fields[-1], inside):
        return None
    value = getattr(inside, path.fields[-1].name)
    if path.key is not None:
        return value.get(path.key)
    if _is_map(path.fields[-1]):
        return dict(value)
    return list(value) if _is_repeated(path.fields[-1]) else value


def _present(path: _Path, message: Message) -> bool:
    return _value(path, message) is not None


def _is_set(field: FieldDescriptor, message: Message) -> bool:
    if field.has_presence:
        return bool(message.HasField(field.name))
    return bool(getattr(message, field.name))


def _is_repeated(field: FieldDescriptor) -> bool:
    # protobuf before 6.31 has `label` alone, and later ones warn of it.
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == FieldDescriptor.LABEL_REPEATED)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _key_is_text(field: FieldDescriptor) -> bool:
    return bool(field.message_type.fields_by_name["key"].type == FieldDescriptor.TYPE_STRING)


def _is_single_message(field: FieldDescriptor) -> bool:
    return field.message_type is not None and not _is_repeated(field)
