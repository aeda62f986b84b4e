"""What `cpr emulate` shows: one line for each call, for a person or, as JSON, for a program."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TextIO

import click

from cpr_kit.emulator.errors import Code

_METHOD_WIDTH = 24
_RESOURCE_WIDTH = 30
_STATUS_WIDTH = 9
_MESSAGE_LENGTH = 300
_TO_TENTHS = 10
_CLIENTS_FAULT = 400
_SERVERS_FAULT = 500


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, ended. `status` is OK, the name of a google.rpc code, or an HTTP status."""

    time: datetime
    """When it came in, with its time zone."""
    protocol: str
    """REST, gRPC, GCS, ..."""
    method: str
    """DeployModel, storage.objects.insert, ..."""
    resource: str = ""
    status: str = "OK"
    milliseconds: float = 0.0
    message: str = ""
    """The error's text."""
    fault: str = ""
    """The fault on demand that befell it, if any."""


class Console:
    """Writes whole lines, from any thread, and never raises: nobody's call fails because a terminal went away.

    Colours as click's: on a terminal alone. NO_COLOR turns them off.
    """

    def __init__(
        self, stream: TextIO | None = None, *, as_json: bool = False, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._as_json = as_json
        self._coloured = not as_json and not environ.get("NO_COLOR") and _is_terminal(self._stream)
        self._lock = threading.Lock()

    def call(self, call: Call) -> None:
        self._write(_as_json(call) if self._as_json else self._line(call))

    def note(self, text: str) -> None:
        """Anything else: a replica is ready, a container ended."""
        if self._as_json:
            self._write(json.dumps({"time": _utc(datetime.now(timezone.utc)), "note": text}))
            return
        for line in text.splitlines():
            self._write(self._style(_printable(line), dim=True))

    def _line(self, call: Call) -> str:
        colour = _colour(call.status)
        took = f"{call.milliseconds:.1f}" if call.milliseconds < _TO_TENTHS else f"{call.milliseconds:.0f}"
        parts = [
            self._style(call.time.astimezone().strftime("%H:%M:%S.%f")[:-3], dim=True),
            f"{_fit(call.protocol, 4):4}",
            f"{_fit(call.method, _METHOD_WIDTH):{_METHOD_WIDTH}}",
            f"{_fit(_short(call.resource), _RESOURCE_WIDTH):{_RESOURCE_WIDTH}}",
            self._style(f"{_printable(call.status):{_STATUS_WIDTH}}", fg=colour),
            f"{took:>7} ms",
        ]
        if message := _first_line(call.message):
            parts.append(self._style(message, fg=colour))
        if call.fault:
            parts.append(self._style(f"[fault {_printable(call.fault)}]", fg="magenta"))
        return "  ".join(parts)

    def _style(self, text: str, *, fg: str | None = None, dim: bool | None = None) -> str:
        return click.style(text, fg=fg, dim=dim) if self._coloured else text

    def _write(self, line: str) -> None:
        # OSError: the reader is gone. ValueError: the stream is closed, or cannot write these letters.
        with self._lock, contextlib.suppress(OSError, ValueError):
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self._stream.flush()


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError):  # closed
        return False


def _as_json(call: Call) -> str:
    return json.dumps(
        {
            "time": _utc(call.time),
            "protocol": call.protocol,
            "method": call.method,
            "resource": call.resource,
            "status": call.status,
            "ms": round(call.milliseconds, 3),
            **({"message": call.message} if call.message else {}),
            **({"fault": call.fault} if call.fault else {}),
        }
    )


def _utc(time: datetime) -> str:
    return time.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _colour(status: str) -> str:
    """Green for what went well, yellow for a mistake of the caller, red for what the service failed at."""
    if status in Code.__members__:
        number = Code[status].http_status
    else:
        number = int(status) if status.isascii() and status.isdigit() else 0
    if number >= _SERVERS_FAULT:
        return "red"
    return "yellow" if number >= _CLIENTS_FAULT else "green"


def _short(resource: str) -> str:
    """Without `projects/P/locations/L/`, which is the same in every line."""
    parts = resource.split("/", 4)
    return parts[4] if len(parts) > 4 and parts[0::2][:2] == ["projects", "locations"] else resource  # noqa: PLR2004


def _fit(text: str, width: int) -> str:
    """Printable and no longer than that, by leaving out the middle: both ends of a name tell names apart."""
    text = _printable(text)
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    first = _printable(lines[0]) if lines else ""
    return first if len(first) <= _MESSAGE_LENGTH else f"{first[: _MESSAGE_LENGTH - 1]}…"


def _printable(text: str) -> str:
    """Names come from the callers: what would move a terminal's cursor, or turn its letters round, is escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
