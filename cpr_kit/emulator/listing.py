"""One page of a list call: filtered, ordered, and with a token for the rest (AIP-132, AIP-158, AIP-160)."""

from __future__ import annotations

import base64
import functools
import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from cpr_kit.emulator import masks
from cpr_kit.emulator.errors import invalid_argument
from cpr_kit.emulator.filters import Field, Kind, nanoseconds, predicate, snake_case, value_at

M = TypeVar("M", bound=Message)

_IS = ("=", "!=")
_MAP = ("=", "!=", ":")
_TIMES = {"display_name": "display_name", "create_time": "create_time", "update_time": "update_time"}
_LABELS = Field(kind=Kind.LABELS, operators=_MAP, path="labels")
_DISPLAY_NAME = Field(kind=Kind.TEXT, operators=_IS, path="display_name")
JOB_STATES = tuple(
    f"JOB_STATE_{state}"
    for state in (
        *("UNSPECIFIED", "QUEUED", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLING", "CANCELLED"),
        *("PAUSED", "EXPIRED", "UPDATING", "PARTIALLY_SUCCEEDED"),
    )
)
"""JobState."""


@dataclass(frozen=True, kw_only=True)
class Filterable:
    """What one list call can filter and order by.

    `order` gives the path behind each name of an order, `default_order` the order without one (UNCONFIRMED: no
    document states it), `key` the paths that make an entry unique.
    """

    fields: Mapping[str, Field] = field(default_factory=dict)
    order: Mapping[str, str] = field(default_factory=dict)
    default_order: str = "create_time desc"
    key: tuple[str, ...] = ("name",)


MODELS = Filterable(
    fields={
        "model": Field(kind=Kind.ID, operators=_IS, path="name"),
        "display_name": _DISPLAY_NAME,
        "labels": _LABELS,
        "base_model_name": Field(
            kind=Kind.ID, operators=("=",), path="base_model_source.model_garden_source.public_model_name"
        ),
    },
    order=_TIMES,
)
"""ListModelsRequest."""

MODEL_VERSIONS = Filterable(
    fields={"labels": _LABELS},
    order={"create_time": "version_create_time", "update_time": "version_update_time"},
    key=("name", "version_id"),
)
"""ListModelVersionsRequest; the times are those of the version, since the model's are the same in all of them."""

ENDPOINTS = Filterable(
    fields={
        "endpoint": Field(kind=Kind.ID, operators=_IS, path="name"),
        "display_name": _DISPLAY_NAME,
        "labels": _LABELS,
        # The base model of Model Garden's own deployments, of which there are none here.
        "base_model_name": Field(kind=Kind.TEXT, operators=("=",), value=lambda _: ""),
    },
    order=_TIMES,
)
"""ListEndpointsRequest."""

OPERATIONS = Filterable(
    fields={"done": Field(kind=Kind.BOOL, operators=_IS, path="done")}, order={"name": "name"}, default_order="name"
)
"""google.longrunning.ListOperationsRequest, which says no more than that there is a filter."""


def batch_prediction_jobs(model_display_name: Callable[[Any], str]) -> Filterable:
    """ListBatchPredictionJobsRequest. A job does not have its model's display name: the caller finds it."""
    return Filterable(
        fields={
            "display_name": Field(kind=Kind.TEXT, operators=(*_IS, ":"), path="display_name"),
            "model_display_name": Field(kind=Kind.TEXT, operators=_IS, value=model_display_name),
            "state": Field(kind=Kind.ENUM, operators=_IS, path="state", choices=JOB_STATES),
            "create_time": Field(kind=Kind.TIME, operators=(*_IS, "<", "<=", ">", ">="), path="create_time"),
            "labels": _LABELS,
        },
        order={"create_time": "create_time"},  # The request has no order; this one is for the default.
    )


def page(
    messages: Iterable[M],
    *,
    filter: str,  # noqa: A002 - the request's own name for it
    order_by: str,
    page_size: int,
    page_token: str,
    read_mask: FieldMask | None,
    fields: Filterable,
    scope: str = "",
    default_page_size: int = 100,
) -> tuple[list[M], str]:
    """The page's messages and the token for the next page, "" on the last one.

    The token holds the last entry's key and belongs to the filter, the order and `scope` (the parent); entries that
    come or go between two pages make no other entry appear twice or be left out. Without a read mask the messages are
    those that came in, not copies.
    """
    if page_size < 0:
        raise invalid_argument(f"page_size is {page_size}; it must not be negative.")
    passes = predicate(filter, fields.fields)
    order = _Order.of(order_by, fields)
    query = hashlib.sha256(json.dumps([scope, filter, order_by]).encode()).hexdigest()[:16]
    after = order.rank(_read_token(page_token, query, order)) if page_token else None
    found = [(order.rank(order.values(message)), message) for message in messages if passes(message)]
    rest = [entry for entry in found if after is None or entry[0] > after]
    size = page_size or default_page_size
    shown = [message for _, message in heapq.nsmallest(size, rest, key=lambda entry: entry[0])]
    token = _token(query, order.values(shown[-1])) if len(rest) > size else ""
    return [masks.read(message, read_mask) for message in shown], token


@functools.total_ordering
@dataclass(frozen=True)
class _Down:
    """A value that comes before the smaller ones."""

    value: Any

    def __lt__(self, other: _Down) -> bool:
        return bool(self.value > other.value)


@dataclass(frozen=True)
class _Order:
    """The paths to order by, each with whether it descends; the last ones are the key."""

    paths: tuple[tuple[str, bool], ...]

    @classmethod
    def of(cls, text: str, fields: Filterable) -> _Order:
        """Raises INVALID_ARGUMENT for a field that cannot be ordered by."""
        paths: dict[str, bool] = {}
        for part in (text if text.strip() else fields.default_order).split(","):
            name, *direction = part.split() or [""]
            path = fields.order.get(snake_case(name))
            if path is None:
                known = ", ".join(fields.order)
                raise invalid_argument(
                    f'Invalid order_by "{text}": "{name}" is no field to order by; these are: {known}.'
                )
            if direction not in ([], ["asc"], ["desc"]):
                raise invalid_argument(f'Invalid order_by "{text}": after "{name}" may stand asc or desc.')
            if path in paths:
                raise invalid_argument(f'Invalid order_by "{text}": "{name}" stands in it twice.')
            paths[path] = direction == ["desc"]
        return cls((*paths.items(), *((path, False) for path in fields.key if path not in paths)))

    def values(self, message: Message) -> list[str | int]:
        """What a token holds: texts and numbers."""
        return [_plain(value_at(message, path)) for path, _ in self.paths]

    def rank(self, values: list[str | int]) -> tuple[Any, ...]:
        return tuple(_Down(value) if down else value for value, (_, down) in zip(values, self.paths, strict=True))


def _plain(value: Any) -> str | int:
    return nanoseconds(value) if isinstance(value, Message) else value


def _token(query: str, values: list[str | int]) -> str:
    return base64.urlsafe_b64encode(json.dumps([query, values]).encode()).decode()


def _read_token(token: str, query: str, order: _Order) -> list[str | int]:
    foreign = invalid_argument(f'"{token}" is no page token of this service.')
    try:
        made_for, values = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        types = [type(value) for value in values]
    except (ValueError, TypeError, RecursionError):
        raise foreign from None
    if made_for != query:
        raise invalid_argument("The page token belongs to a call with another parent, filter or order.")
    if types != [int if path.endswith("_time") else str for path, _ in order.paths]:
        raise foreign
    return list(values)
