"""What deployed models' containers have written, as entries of Cloud Logging ("Online prediction logging")."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
"""LogSeverity, in its order."""
RESOURCE = "aiplatform.googleapis.com/Endpoint"
_KEPT = 50_000
# The server's plain lines: "2026-01-31 12:00:00,123 WARNING ...".
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d+ ([A-Z]+) ")
_OWN = "logging.googleapis.com/"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Whose lines: `project` is its number."""

    project: str
    location: str
    endpoint: str
    deployed_model: str


@dataclass(frozen=True)
class Entry:
    """One line. A line that is a JSON object is the entry's payload, with `severity` and `time` taken out of it."""

    number: int
    source: Source
    replica: int
    received: int
    """In nanoseconds since 1970."""
    time: int
    severity: str
    payload: str | Mapping[str, Any]
    labels: Mapping[str, str]

    @property
    def order(self) -> tuple[int, int]:
        return self.time, self.number

    @property
    def timestamp(self) -> Timestamp:
        return Timestamp(seconds=self.time // 10**9, nanos=self.time % 10**9)


class Journal:
    """The newest lines of all replicas. `add` may be called from any thread."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._entries: deque[Entry] = deque(maxlen=kept)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, source: Source, replica: int, line: str) -> None:
        received = time.time_ns()
        payload: str | dict[str, Any] = line
        fields = _object(line)
        severity, moment, labels = "DEFAULT", received, {}
        if fields is not None:
            severity = str(fields.pop("severity", severity)).upper()
            moment = _moment(fields.pop("time", None)) or received
            own = fields.pop(f"{_OWN}labels", None)
            labels = {str(key): str(value) for key, value in own.items()} if isinstance(own, dict) else {}
            payload = fields
        elif match := _PLAIN.match(line):
            severity = match[1]
        severity = severity if severity in SEVERITIES else "DEFAULT"
        with self._lock:
            number = next(self._numbers)
            self._entries.append(Entry(number, source, replica, received, moment, severity, payload, labels))

    def entries(self) -> list[Entry]:
        with self._lock:
            return list(self._entries)


def _object(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _moment(text: object) -> int | None:
    """A line's own time (RFC 3339), in nanoseconds; None for what is none."""
    moment = Timestamp()
    try:
        moment.FromJsonString(str(text))
    except ValueError:
        return None
    return int(moment.ToNanoseconds())


def stamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC, to the nanosecond."""
    seconds, nanos = divmod(nanoseconds, 10**9)
    return f"{dt.datetime.fromtimestamp(seconds, dt.timezone.utc):%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"
