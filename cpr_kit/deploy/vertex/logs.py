"""What the containers of an endpoint have written, read from Cloud Logging (its method entries.list).

Vertex AI writes their standard output and error there under the resource type aiplatform.googleapis.com/Endpoint
("Online prediction logging"), for as long as container_logging is on.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cpr_kit.deploy.resources import Endpoint
from cpr_kit.deploy.vertex.calls import Caller, Patience, libraries
from cpr_kit.errors import CprError, DeployError, UsageError

SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
"""Of Cloud Logging's LogSeverity, the least first."""

_URL = "https://logging.googleapis.com/v2/entries:list"
_RESOURCE = "aiplatform.googleapis.com/Endpoint"
_PAGE = 1000
_TIMEOUT_S = 60.0
_PASSES = (429, 502, 503, 504)
_POLL_S = 2.0
# Entries become readable some seconds after they were written, and not in the order of their times.
_LATE = dt.timedelta(seconds=30)
# A deployment lasts as long as deploymentTimeout at most, which is 2 h (ModelContainerSpec).
_RECENT = dt.timedelta(hours=3)
_TAIL_S = 10.0
_AGO = re.compile(r"(\d{1,9})(s|m|h|d)", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII)
_PLAIN = {"severity", "message"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a container's, or one JSON object. `fields` is what an object held beside its message."""

    time: dt.datetime
    severity: str
    message: str
    region: str
    endpoint: str
    deployed_model: str = ""
    replica: str = ""
    fields: Mapping[str, Any]
    id: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "time": _stamp(self.time), "fields": dict(self.fields)}


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which entries: from `since` on, of one deployed model, from a severity up."""

    since: dt.datetime
    deployed_model: str | None = None
    severity: str | None = None

    def __post_init__(self) -> None:
        if self.severity is not None and self.severity not in SEVERITIES:
            raise UsageError(f'the severity is "{self.severity}"; it is one of {", ".join(SEVERITIES)}')
        if self.deployed_model is not None and not re.fullmatch(r"[0-9]{1,20}", self.deployed_model):
            raise UsageError(f'the deployed model is "{self.deployed_model}"; its id is a number: cpr status shows it')


def ago(text: str, now: dt.datetime | None = None) -> dt.datetime:
    """The time that "10m", "2h" or "1d" ago was, or that an RFC 3339 time in UTC names. Raises UsageError.

    >>> ago("90s", dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)).isoformat()
    '2025-12-31T23:58:30+00:00'
    """
    if match := _AGO.fullmatch(text):
        try:
            span = dt.timedelta(**{_UNITS[match[2]]: int(match[1])})
            return (now or dt.datetime.now(dt.timezone.utc)) - span
        except OverflowError:
            raise UsageError(f'"{text}" ago is before there were logs; it is such as 10m, 2h or 1d') from None
    try:
        return _time(text)
    except ValueError:
        raise UsageError(f'since is "{text}"; it is such as 90s, 10m, 2h or 1d, or 2026-01-31T12:00:00Z') from None


class Log:
    """The log of one endpoint, or of several of one project, in one stream."""

    def __init__(self, project: str, endpoints: Mapping[str, Sequence[str]], caller: Caller | None = None) -> None:
        """`endpoints` are the ids of each region's."""
        self._project = project
        self._places = _places(endpoints)
        self._caller = caller or Caller()
        self._session: Any = None

    def entries(self, query: Query) -> Iterator[Entry]:
        """From the oldest to the newest. Raises DeployError, LackingError."""
        yield from self._pages(query, "timestamp asc", _PAGE)

    def last(self, query: Query, count: int) -> list[Entry]:
        """The newest ones, the oldest of them first."""
        newest: list[Entry] = []
        for entry in self._pages(query, "timestamp desc", min(count, _PAGE)):
            newest.append(entry)
            if len(newest) >= count:
                break
        return newest[::-1]

    def follow(self, query: Query, stop: threading.Event | None = None, poll_s: float = _POLL_S) -> Iterator[Entry]:
        """As `entries`, and then what comes, until `stop` is set. What arrives late comes out of order, but once."""
        stop = stop or threading.Event()
        seen: dict[tuple[str, ...], dt.datetime] = {}
        newest = query.since
        while not stop.is_set():
            since = max(query.since, newest - _LATE)
            for entry in self.entries(replace(query, since=since)):
                if (key := _key(entry)) not in seen:
                    seen[key] = entry.time
                    newest = max(newest, entry.time)
                    yield entry
            seen = {key: time for key, time in seen.items() if time >= newest - _LATE}
            stop.wait(poll_s)

    def _pages(self, query: Query, order: str, size: int) -> Iterator[Entry]:
        body: dict[str, Any] = {
            "resourceNames": [f"projects/{self._project}"],
            "filter": self._filter(query),
            "orderBy": order,
            "pageSize": size,
        }
        while self._places:
            page = self._caller("read the endpoint's log", self._post, body)
            yield from (_entry(each) for each in page.get("entries", ()))
            if not page.get("nextPageToken"):
                return
            body["pageToken"] = page["nextPageToken"]

    def _filter(self, query: Query) -> str:
        parts = [f'resource.type="{_RESOURCE}"', self._places, f'timestamp>="{_stamp(query.since)}"']
        if query.deployed_model:
            parts.append(f'labels.deployed_model_id="{query.deployed_model}"')
        if query.severity:
            parts.append(f"severity>={query.severity}")
        return " AND ".join(parts)

    def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        with libraries():
            from google.api_core import exceptions
            from google.auth.transport.requests import AuthorizedSession
        import requests

        if self._session is None:
            self._session = AuthorizedSession(self._caller.credentials)  # type: ignore[no-untyped-call]
        try:
            response = self._session.post(_URL, json=body, timeout=_TIMEOUT_S)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise exceptions.ServiceUnavailable(f"{_URL}: {error}") from error  # type: ignore[no-untyped-call]
        if response.status_code == requests.codes.unauthorized:
            raise exceptions.Unauthenticated(_said(response))  # type: ignore[no-untyped-call]
        if response.status_code in _PASSES:
            raise exceptions.from_http_response(response)  # type: ignore[no-untyped-call]
        if not response.ok:
            raise DeployError(
                f"Cloud Logging refused to list the entries of {self._project}: {_said(response)}",
                "reading needs logging.logEntries.list: roles/logging.viewer on the project",
            )
        answer: dict[str, Any] = response.json()
        return answer


def tail(project: str, endpoint: Endpoint, deployed_model: str, count: int) -> list[str]:
    """The last lines of a deployed model's containers, to be shown with their failure; none where they cannot be read.

    It is asked for again while there are none: entries become readable some seconds after they were written.
    """
    region = endpoint.name.split("/")[3]
    log = Log(project, {region: [endpoint.id]}, Caller(Patience(total_s=_TAIL_S)))
    query = Query(since=dt.datetime.now(dt.timezone.utc) - _RECENT, deployed_model=deployed_model)
    deadline = time.monotonic() + _TAIL_S
    with contextlib.suppress(CprError):
        while not (found := log.last(query, count)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return [line for entry in found for line in entry.message.splitlines()][-count:]
    return []


def _places(endpoints: Mapping[str, Sequence[str]]) -> str:
    """The part of a filter that names the endpoints; empty for none."""
    terms = [
        f'resource.labels.location="{region}" AND resource.labels.endpoint_id="{endpoint}"'
        for region, each in endpoints.items()
        for endpoint in each
    ]
    return terms[0] if len(terms) == 1 else f"({' OR '.join(f'({term})' for term in terms)})" if terms else ""


def _entry(raw: Mapping[str, Any]) -> Entry:
    resource = raw.get("resource", {}).get("labels", {})
    labels = raw.get("labels", {})
    payload = raw.get("jsonPayload")
    if isinstance(payload, Mapping):
        said = payload.get("message")
        message = said if isinstance(said, str) else json.dumps(payload, ensure_ascii=False)
        fields = {name: value for name, value in payload.items() if name not in _PLAIN} if isinstance(said, str) else {}
    else:
        message, fields = str(raw.get("textPayload", "")), {}
    return Entry(
        time=_time(raw.get("timestamp") or raw.get("receiveTimestamp") or "1970-01-01T00:00:00Z"),
        severity=raw.get("severity", "DEFAULT"),
        message=message.rstrip("\n"),
        region=resource.get("location", ""),
        endpoint=resource.get("endpoint_id", ""),
        deployed_model=labels.get("deployed_model_id", ""),
        replica=labels.get("replica_id", ""),
        fields=fields,
        id=raw.get("insertId", ""),
    )


def _key(entry: Entry) -> tuple[str, ...]:
    """What makes an entry itself: an insertId is unique within a log and a time."""
    return (entry.id or entry.message, _stamp(entry.time), entry.region, entry.replica)


def _time(text: str) -> dt.datetime:
    """RFC 3339 in UTC with up to nine digits, of which Python keeps six. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(text)
    micros = (match[2] or "").ljust(6, "0")[:6]
    return dt.datetime.fromisoformat(f"{match[1]}.{micros}+00:00")


def _stamp(time: dt.datetime) -> str:
    return time.astimezone(dt.timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _said(response: Any) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(response.text)[:200]
