"""Cloud Logging, as far as what deployed models have written is read there: entries.list of its REST API, v2."""

from __future__ import annotations

import base64
import heapq
import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cpr_kit.emulator.errors import invalid_argument, permission_denied
from cpr_kit.emulator.filters import Field, Kind, predicate
from cpr_kit.emulator.journal import RESOURCE, SEVERITIES, Entry, Journal, stamp
from cpr_kit.emulator.proxy.bodies import json_object
from cpr_kit.emulator.settings import Settings

_READ = "logging.logEntries.list"
_PAGE, _MOST = 50, 1000
_ORDERS = ("timestamp asc", "timestamp desc")
_TOKEN = re.compile(r"([0-9]+)/([0-9]+)")
_NAME = "aiplatform.googleapis.com%2Fprediction_container"
_EQUAL = ("=", "!=", ":")
_ANY = ("=", "!=", "<", "<=", ">", ">=")


class LogEntries:
    def __init__(
        self, journal: Journal, settings: Settings, number_of: Callable[[str], str], id_of: Callable[[str], str]
    ) -> None:
        self._journal = journal
        self._settings = settings
        self._number_of = number_of
        self._id_of = id_of
        self._fields = {
            "resource": Field(kind=Kind.LABELS, operators=_EQUAL, value=self._resource),
            "labels": Field(kind=Kind.LABELS, operators=_EQUAL, value=_labels),
            "timestamp": Field(kind=Kind.TIME, operators=_ANY, value=lambda entry: entry.timestamp),
            "severity": Field(kind=Kind.LEVEL, operators=_ANY, value=lambda entry: entry.severity, choices=SEVERITIES),
            "log_name": Field(kind=Kind.TEXT, operators=("=", "!="), value=self._log_name),
        }

    def routes(self) -> list[Route]:
        return [Route("/v2/entries:list", self._list, methods=["POST"])]

    async def _list(self, request: Request) -> Response:
        body = await json_object(request)
        projects = self._projects(body.get("resourceNames"))
        order = body.get("orderBy") or _ORDERS[0]
        if order not in _ORDERS:
            raise invalid_argument(f'The orderBy "{order}" is none of {", ".join(_ORDERS)}.')
        size = body.get("pageSize") or _PAGE
        if not isinstance(size, int) or not size > 0:
            raise invalid_argument(f"The pageSize is {size}; it must be a positive number.")
        passes: Callable[[Any], bool] = predicate(str(body.get("filter") or ""), self._fields)
        newest_first = order == _ORDERS[1]
        start = _start(str(body.get("pageToken") or ""))
        found = [
            each
            for each in self._journal.entries()
            if each.source.project in projects
            and (start is None or (each.order < start if newest_first else each.order > start))
            and passes(each)
        ]
        size = min(size, _MOST)
        choose = heapq.nlargest if newest_first else heapq.nsmallest
        page = choose(size + 1, found, key=lambda each: each.order)
        answer: dict[str, Any] = {}
        if page:
            answer["entries"] = [self._shown(each) for each in page[:size]]
        if len(page) > size:
            answer["nextPageToken"] = _token(page[size - 1])
        return JSONResponse(answer)

    def _projects(self, names: object) -> set[str]:
        """The numbers of `resourceNames`, which this caller may read the logs of."""
        given = [str(name).split("/") for name in names] if isinstance(names, list) else []
        if not given or any(name[0] != "projects" or len(name) < 2 for name in given):  # noqa: PLR2004
            raise invalid_argument('"resourceNames" must be a list of projects, as ["projects/my-project"].')
        if _READ in self._settings.denied_permissions:
            resource = "/".join(given[0][:2])
            raise permission_denied(f"Permission '{_READ}' denied on resource '{resource}' (or it may not exist).")
        return {self._number_of(name[1]) for name in given}

    def _resource(self, entry: Entry) -> Mapping[str, str]:
        """By the names that stand behind `resource.` in a filter."""
        return {"type": RESOURCE, **{f"labels.{key}": value for key, value in self._resource_labels(entry).items()}}

    def _resource_labels(self, entry: Entry) -> dict[str, str]:
        source = entry.source
        container = self._id_of(source.project)
        return {"resource_container": container, "location": source.location, "endpoint_id": source.endpoint}

    def _log_name(self, entry: Entry) -> str:
        return f"projects/{self._id_of(entry.source.project)}/logs/{_NAME}"

    def _shown(self, entry: Entry) -> dict[str, Any]:
        is_text = isinstance(entry.payload, str)
        return {
            "insertId": f"{entry.number:x}",
            "logName": self._log_name(entry),
            "resource": {"type": RESOURCE, "labels": self._resource_labels(entry)},
            "labels": _labels(entry),
            "timestamp": stamp(entry.time),
            "receiveTimestamp": stamp(entry.received),
            "severity": entry.severity,
            ("textPayload" if is_text else "jsonPayload"): entry.payload,
        }


def _labels(entry: Entry) -> dict[str, str]:
    return {
        **entry.labels,
        "deployed_model_id": entry.source.deployed_model,
        "replica_id": str(entry.replica),
    }


def _token(last: Entry) -> str:
    return base64.urlsafe_b64encode("{}/{}".format(*last.order).encode()).decode()


def _start(token: str) -> tuple[int, int] | None:
    """Where the page before ended."""
    if not token:
        return None
    try:
        match = _TOKEN.fullmatch(base64.urlsafe_b64decode(token).decode())
    except ValueError:
        match = None
    if match is None:
        raise invalid_argument("The pageToken is none that was given out here.")
    return int(match[1]), int(match[2])
