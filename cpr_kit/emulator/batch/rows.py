"""A row of a batch job's input: what the container gets of it, and what the output says of it.

The rules are those of the API's BatchPredictionJob.InstanceConfig and of "Get batch predictions from a
custom trained model".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """`instance` and `key` are JSON texts: a row is encoded once, for the request and the output alike."""

    instance: str
    shown: str | None = None
    """The output's `instance` where it is not what the container got: the URI of a file-list's file."""
    key: str | None = None
    """Stands in the output in the instance's place."""
    attached: Mapping[str, Any] = field(default_factory=dict)
    """The excluded fields, which the output gets beside the instance."""
    columns: tuple[str, ...] = ()
    cells: tuple[Any, ...] = ()
    """The instance by column, for csv that is answered in csv."""


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A row that no container will see. `message` is what errors_stats counts, so it names no line."""

    message: str
    where: str
    detail: str = ""
    unread: bool = False
    """A file that could not be read, which the job's partialFailures tell."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" {self.detail}" if self.detail else "")


class BadRow(ValueError):
    """A row breaks the rules of its format. Its first line is counted; `detail` is for the reader of the warnings."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    def at(self, where: str) -> Bad:
        return Bad(message=self.message, where=where, detail=self.detail)


def encode(value: Any) -> str:
    """JSON as the standard has it: no NaN, no infinities."""
    try:
        return json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise BadRow("The row cannot be written as JSON.", f"({error})") from None


def decode(text: bytes) -> Any:
    try:
        return json.loads(text.decode(), parse_constant=_refuse)
    except UnicodeDecodeError:
        raise BadRow("The row is not UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise BadRow("The row is not JSON.", f"({error})") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


@dataclass(frozen=True, kw_only=True)
class InstanceConfig:
    """How a row becomes an instance (InstanceConfig of the API)."""

    type: str = ""
    key: str = ""
    included: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Any) -> InstanceConfig:
        """From the job's `instance_config` message."""
        return cls(
            type=config.instance_type,
            key=config.key_field,
            included=tuple(config.included_fields),
            excluded=tuple(config.excluded_fields),
        )

    @property
    def names_fields(self) -> bool:
        return bool(self.key or self.included or self.excluded)

    def keeps(self, name: str) -> bool:
        """Whether the field is part of the instance: the key never is ("similar to excluded_fields")."""
        return name != self.key and name not in self.excluded and (not self.included or name in self.included)

    def order(self, names: Sequence[str]) -> list[str]:
        """The fields of an array: as the input has them, or as `included` says."""
        return [name for name in (self.included or names) if self.keeps(name)]

    def attached(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What of the row stands in the output beside the instance: excluded fields, where there is no key."""
        attached = {} if self.key else {name: fields[name] for name in self.excluded if name in fields}
        encode(attached)  # what is no JSON is found here, and not when the output is written
        return attached

    def key_of(self, fields: Mapping[str, Any]) -> str | None:
        if not self.key:
            return None
        if self.key not in fields:
            raise BadRow(f"The row has no key field '{self.key}'.")
        return encode(fields[self.key])

    def row(self, value: Any) -> Row:
        """Of one JSON value. Without a configuration, "the format is determined by each line of the input"."""
        if not isinstance(value, dict):
            if self.names_fields or self.type == "object":
                raise BadRow("The row is not a JSON object, which the job's instanceConfig needs.")
            return Row(instance=encode(value))
        if self.type == "array":
            instance: Any = self._array(value)
        else:
            instance = {name: field for name, field in value.items() if self.keeps(name)}
        return Row(instance=encode(instance), key=self.key_of(value), attached=self.attached(value))

    def _array(self, fields: Mapping[str, Any]) -> list[Any]:
        if not self.included:
            raise BadRow("The row is a JSON object: instanceType array needs includedFields for their order.")
        names = self.order(())
        if lacking := [name for name in names if name not in fields]:
            raise BadRow("The row lacks a field of includedFields: " + ", ".join(lacking) + ".")
        return [fields[name] for name in names]
