"""The server's log: information on standard output, errors on standard error.

Vertex AI shows every line on standard error with severity ERROR, so nothing else may go there.
"""

from __future__ import annotations

import logging
import logging.config


def _below_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def configure() -> None:
    """Set up the root logger of this process, Python's warnings included."""
    stdout = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "filters": ["below_error"]}
    stderr = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "level": "ERROR"}
    for handler in (stdout, stderr):
        handler["formatter"] = "line"
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"below_error": {"()": lambda: _below_error}},
            "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
            "handlers": {"stdout": stdout, "stderr": stderr},
            "root": {"level": "INFO", "handlers": ["stdout", "stderr"]},
            "loggers": {"uvicorn.access": {"level": "WARNING"}},
        }
    )
    logging.captureWarnings(capture=True)
