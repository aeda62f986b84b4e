"""One TOML table, or the CPR_* variables of a section -> one frozen dataclass, each value checked by its field's type.

A field's metadata may say the least whole number that it takes, `field(default=0, metadata=least(0))`; else it is 1.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Literal

from cpr_kit.errors import ConfigError, SpecError

_LEAST = "least"


def least(number: int) -> Mapping[str, int]:
    return {_LEAST: number}


def known(name: str, names: Iterable[str], where: str) -> None:
    """Raises ConfigError for a name that is none of `names`, with the one that was probably meant."""
    names = tuple(names)
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(names)}"
        raise ConfigError(f'{where} "{name}" is unknown{hint}')


def section(cls: type[Any], table: Any, where: str) -> Any:
    """A table of cpr.toml as `cls`. Raises ConfigError."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is not a table")
    kinds = typing.get_type_hints(cls)
    by_name = {each.name: each for each in fields(cls)}
    values = {}
    for key, value in table.items():
        known(key, by_name, f"{where}: key")
        values[key] = _value(value, kinds[key], f"{where} {key}", _least_of(by_name[key]))
    for name, each in by_name.items():
        if name not in values and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}: {name} is missing")
    try:
        return cls(**values)
    except SpecError as error:
        raise ConfigError(f"{where}: {error}") from error


def variables(cls: type[Any], prefix: str) -> dict[str, str]:
    """The variable of each key of a section that can be written as text: tables cannot."""
    kinds = typing.get_type_hints(cls)
    return {each.name: prefix + each.name.upper() for each in fields(cls) if not _is_table(kinds[each.name])}


def overridden(section: Any, prefix: str, environ: Mapping[str, str]) -> Any:
    """`section` with what the environment says differently. Raises ConfigError."""
    cls = type(section)
    kinds = typing.get_type_hints(cls)
    by_name = {each.name: each for each in fields(cls)}
    changes: dict[str, Any] = {}
    for key, variable in variables(cls, prefix).items():
        text, kind = environ.get(variable), kinds[key]
        if text is None or (not text and (kind is str or _measures(kind))):
            continue
        changes[key] = _from_text(text, kind, variable, _least_of(by_name[key]))
    return replace(section, **changes)


def _least_of(field: dataclasses.Field[Any]) -> int:
    return int(field.metadata.get(_LEAST, 1))


def _is_table(kind: Any) -> bool:
    return typing.get_origin(kind) is Mapping or _table_class(kind) is not None


def _table_class(kind: Any) -> type[Any] | None:
    """The dataclass that a table inside a table becomes."""
    return next((each for each in _kinds(kind) if dataclasses.is_dataclass(each) and isinstance(each, type)), None)


def _value(value: Any, kind: Any, where: str, least: int) -> Any:
    """Check one TOML value against the type of its field."""
    inner = _table_class(kind)
    if inner is not None:
        return section(inner, value, where)
    if typing.get_origin(kind) is Mapping:
        return _mapped(value, typing.get_args(kind)[1], where)
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if isinstance(value, list) and all(type(entry) is item for entry in value):
            return tuple(value)
        meant = f": {shown([value])}" if type(value) is item else ""
        raise ConfigError(f"{where} is {shown(value)}; it is a list of {_named(item)}{meant}")
    if _measures(kind):
        return _measured(value, kind, where, least)
    plain = bool if kind is bool else str
    if type(value) is not plain:
        raise ConfigError(f"{where} is {shown(value)}; it is {'true or false' if plain is bool else 'a string'}")
    return value


def _mapped(value: Any, item: type[Any], where: str) -> dict[str, Any]:
    if isinstance(value, dict) and all(type(each) is item for each in value.values()):
        return dict(value)
    raise ConfigError(f"{where} is {shown(value)}; it is a table of {_named(item)}")


def _from_text(text: str, kind: Any, name: str, least: int) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ConfigError(f'{name} is "{text}"; it is true or false')
        return text.lower() in ("true", "1")
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        try:
            return tuple(item(part) for part in text.split(",") if part)
        except ValueError as error:
            raise ConfigError(f'{name} is "{text}"; it is a list of {_named(item)} with commas between them') from error
    return _measured(text, kind, name, least) if _measures(kind) else text or None


def _measures(kind: Any) -> bool:
    """Whether it is a number or a choice of words: int, float, Literal, or a union of them."""
    return any(each in (int, float) or typing.get_origin(each) is Literal for each in _kinds(kind))


def _measured(value: Any, kind: Any, where: str, least: int) -> Any:
    """A count from `least` up, a number from 0 up, or one of the words. Text is read in variables, and beside words."""
    kinds, is_variable = _kinds(kind), where.startswith("CPR_")
    words = [word for each in kinds for word in typing.get_args(each)]
    if isinstance(value, str) and value in words:
        return value
    number = _number(value, int if int in kinds else float) if is_variable or words else value
    if int in kinds and type(number) is int and number >= least:
        return number
    if float in kinds and type(number) in (int, float) and 0 <= number <= sys.float_info.max:
        return float(number)
    described = [f'"{word}"' for word in words]
    described += [f"a whole number from {least} up"] * (int in kinds) + ["a number from 0 up"] * (float in kinds)
    raise ConfigError(f"{where} is {shown(value)}; it is {' or '.join(described)}")


def _number(value: Any, kind: type[int | float]) -> Any:
    try:
        return kind(value) if isinstance(value, str) else value
    except ValueError:
        return value


def shown(value: Any) -> str:
    """A value as TOML has it.

    >>> shown(["a", True, 1.5, {"b": 2}])
    '["a", true, 1.5, {b = 2}]'
    """
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {shown(each)}' for key, each in value.items())}}}"
    return str(value)


def _named(item: type[Any]) -> str:
    return "strings" if item is str else "whole numbers"


def _kinds(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)
