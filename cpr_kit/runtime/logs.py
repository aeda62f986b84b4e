"""The server's log: information on standard output, errors on standard error; JSON lines as Cloud Logging reads them.

Vertex AI shows every line on standard error with severity ERROR, so nothing else may go there.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import logging.config
import math
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any

from cpr_kit.contract import LOG_FORMAT
from cpr_kit.runtime import trace

KIT = "cpr_kit"

# https://cloud.google.com/logging/docs/agent/logging/configuration#special-fields
_SPECIAL = "logging.googleapis.com/"
_SEVERITIES = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"), (10, "DEBUG"))
_STANDARD = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))
# An entry of Cloud Logging has 256 KB at most; what is longer arrives in pieces, which are no JSON.
_LONGEST_LINE = 250_000
_LONGEST = 32_000
_DEEPEST = 6
_MOST = 200
# The largest integer that every reader of JSON takes as it is.
_MAX_INTEGER = 2**53


def configure(environ: Mapping[str, str] = os.environ) -> None:
    """Set up this process's logging: the root's, the kit's own, Python's warnings, and what threads raise.

    The format is CPR_SERVE_LOG_FORMAT, else text where standard output is a terminal and JSON elsewhere. A bad value
    counts as none here: `Settings` refuses it, and needs a log to say so.
    """
    handlers = {
        name: {"class": "logging.StreamHandler", "stream": f"ext://sys.{name}", "formatter": "line", **options}
        for name, options in (("stdout", {"filters": ["below_error"]}), ("stderr", {"level": "ERROR"}))
        if getattr(sys, name) is not None
    }
    formatter = {"()": lambda: _formatter(environ)}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"below_error": {"()": lambda: _below_error}},
            "formatters": {"line": formatter},
            "handlers": handlers,
            "root": {"level": "INFO", "handlers": list(handlers)},
            # Its own handlers: an author who gives the root others must still find the reason of a failed start.
            "loggers": {
                KIT: {"level": "INFO", "handlers": list(handlers), "propagate": False},
                "uvicorn.access": {"level": "WARNING"},
                "uvicorn.error": {"level": "WARNING"},
            },
        }
    )
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_thread


def revive() -> None:
    """Call this after the author's code was imported: a dictConfig there disables the loggers that it does not know."""
    logging.getLogger(KIT).disabled = False


class CloudFormatter(logging.Formatter):
    """One JSON object on one line, whatever a record holds; never raises.

    `extra` of a record is there under its own keys. A traceback is part of the message, where Error Reporting looks.
    """

    def __init__(self, project: str = "") -> None:
        super().__init__()
        self._traces = f"projects/{project}/traces/" if project else ""

    def format(self, record: logging.LogRecord) -> str:
        own = {
            "severity": _severity(record.levelno),
            "message": _message(record),
            "time": _time(record.created),
            "logger": _text(_told(record.name)),
            f"{_SPECIAL}labels": {"pid": str(record.process)},
            **self._request(),
        }
        extra = {_text(_told(key)): _plain(value) for key, value in vars(record).items() if key not in _STANDARD}
        line = json.dumps({**extra, **own}, allow_nan=False)
        return line if len(line) <= _LONGEST_LINE else json.dumps(own)

    def _request(self) -> dict[str, Any]:
        request = trace.current.get()
        if request is None:
            return {}
        fields: dict[str, Any] = {"request_id": request.request_id}
        if request.trace_id:
            fields[f"{_SPECIAL}trace"] = self._traces + request.trace_id
            fields[f"{_SPECIAL}trace_sampled"] = request.sampled
        if request.span_id:
            fields[f"{_SPECIAL}spanId"] = request.span_id
        return fields


def _formatter(environ: Mapping[str, str]) -> logging.Formatter:
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    asked = environ.get(LOG_FORMAT, "")
    if asked == "text" or (asked != "json" and is_terminal):
        return logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    return CloudFormatter(environ.get("GOOGLE_CLOUD_PROJECT") or environ.get("AIP_PROJECT_NUMBER", ""))


def _below_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def _log_thread(raised: threading.ExceptHookArgs) -> None:
    """As one record; Python's own way is a line of standard error, so an entry, for each line of a traceback."""
    if raised.exc_type is SystemExit or raised.exc_value is None:
        return
    name = raised.thread.name if raised.thread else "a thread"
    exc_info = (raised.exc_type, raised.exc_value, raised.exc_traceback)
    logging.getLogger(KIT).error("the thread %s ended by an exception", name, exc_info=exc_info)


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001  a record's arguments may be anything, and may not fit its text
        message = f"{_told(record.msg)} {_told(record.args)}"
    parts = (message, _traceback(record), record.stack_info)
    return _text("\n".join(_told(part) for part in parts if part))


def _traceback(record: logging.LogRecord) -> str:
    try:
        raised = record.exc_info and record.exc_info[1]
        return "".join(traceback.format_exception(raised)).rstrip() if raised else record.exc_text or ""
    except Exception:  # noqa: BLE001  an exception's own words are the author's code
        return _told(record.exc_info)


def _severity(level: int) -> str:
    return next((name for least, name in _SEVERITIES if level >= least), "DEFAULT")


def _time(seconds: float) -> str:
    """RFC 3339, in UTC."""
    try:
        when = dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    except (ValueError, OverflowError, OSError):
        when = dt.datetime.now(dt.timezone.utc)
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _plain(value: Any, depth: int = _DEEPEST) -> Any:
    """The value as JSON has it; what JSON has no form for, and what is too deep or too long, as text."""
    if type(value) is dict and depth and len(value) <= _MOST:
        return {_text(_told(key)): _plain(each, depth - 1) for key, each in value.items()}
    if type(value) in (list, tuple) and depth and len(value) <= _MOST:
        return [_plain(each, depth - 1) for each in value]
    is_number = (type(value) is int and abs(value) <= _MAX_INTEGER) or (type(value) is float and math.isfinite(value))
    return value if value is None or type(value) is bool or is_number else _text(_told(value))


def _told(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  __str__ is the author's code
        return f"<{type(value).__name__}, which cannot be shown>"


def _text(text: str) -> str:
    """The start and the end of it, as Unicode that every reader takes."""
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]} [{len(text) - _LONGEST} characters left out] {text[-half:]}"
    return text.encode("utf-8", "replace").decode("utf-8")
