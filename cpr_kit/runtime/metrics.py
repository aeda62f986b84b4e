"""What a server counts: nothing, or Prometheus metrics that are one sum over all of its worker processes.

Make one in the process that forks the workers, before it forks: workers count in files of a folder they share.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from cpr_kit.errors import StartError

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def make(*, asked: bool) -> Metrics:
    """Raises StartError when they are asked for and their library is not installed."""
    return Prometheus() if asked else Off()


class Off:
    """Counts nothing."""

    def request(self, status: int, seconds: float) -> None:
        """A request was answered, or its client left: 499."""

    def refused(self, reason: str) -> None:
        """A request was refused before the model saw it. `reason` is a word of the kit's, never of a client's."""

    def in_flight(self, delta: int) -> None:
        """Requests that came in and are not answered yet changed by `delta`."""

    def queued(self, delta: int) -> None:
        """Requests that wait for the model changed by `delta`."""

    def waited(self, seconds: float) -> None:
        """A request waited so long for the model."""

    def batch(self, rows: int, seconds: float) -> None:
        """The model predicted so many rows in one call."""

    def loaded(self, seconds: float) -> None:
        """The model was loaded."""

    def restarted(self) -> None:
        """A worker was replaced."""

    def ended(self, pid: int) -> None:
        """A worker is gone: what it had in flight and in its queue no longer counts. For the process that forked it."""

    def exposition(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its content type."""
        return b"", "text/plain; charset=utf-8"


class Prometheus(Off):
    """Counts with prometheus-client. The author's own metrics, made after this, are in the same exposition."""

    def __init__(self) -> None:
        self._library = prometheus = _library()
        self._folder = _folder()
        # Chosen when the library is imported; it may have been, before there was a folder.
        prometheus.values.ValueClass = prometheus.values.get_value_class()
        counter, gauge, histogram = prometheus.Counter, prometheus.Gauge, prometheus.Histogram
        kept = {"registry": prometheus.CollectorRegistry()}
        live, most = {"multiprocess_mode": "livesum", **kept}, {"multiprocess_mode": "max", **kept}
        seconds, rows = {"buckets": _SECONDS, **kept}, {"buckets": _ROWS, **kept}
        self._requests = counter("cpr_requests", "Requests answered, by class of status.", ["status"], **kept)
        self._refusals = counter("cpr_refusals", "Requests refused unseen by the model.", ["reason"], **kept)
        self._restarts = counter("cpr_worker_restarts", "Workers replaced.", **kept)
        self._in_flight = gauge("cpr_requests_in_flight", "Requests that came in and are not answered yet.", **live)
        self._queue = gauge("cpr_queue_requests", "Requests that wait for the model.", **live)
        self._load_seconds = gauge("cpr_model_load_seconds", "Time the slowest load of the model took.", **most)
        self._seconds = histogram("cpr_request_seconds", "Time from arrival to answer.", **seconds)
        self._queue_seconds = histogram("cpr_queue_seconds", "Time waited for the model.", **seconds)
        self._predict_seconds = histogram("cpr_predict_seconds", "Time in one call of predict.", **seconds)
        self._rows = histogram("cpr_batch_rows", "Rows in one call of predict.", **rows)

    def request(self, status: int, seconds: float) -> None:
        self._requests.labels(f"{status // 100}xx").inc()
        self._seconds.observe(seconds)

    def refused(self, reason: str) -> None:
        self._refusals.labels(reason).inc()

    def in_flight(self, delta: int) -> None:
        self._in_flight.inc(delta)

    def queued(self, delta: int) -> None:
        self._queue.inc(delta)

    def waited(self, seconds: float) -> None:
        self._queue_seconds.observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        self._rows.observe(rows)
        self._predict_seconds.observe(seconds)

    def loaded(self, seconds: float) -> None:
        self._load_seconds.set(seconds)

    def restarted(self) -> None:
        self._restarts.inc()

    def ended(self, pid: int) -> None:
        self._library.multiprocess.mark_process_dead(pid, self._folder)

    def exposition(self) -> tuple[bytes, str]:
        registry = self._library.CollectorRegistry()
        self._library.multiprocess.MultiProcessCollector(registry, self._folder)
        return self._library.generate_latest(registry), self._library.CONTENT_TYPE_LATEST


Metrics = Off | Prometheus


def _library() -> Any:
    try:
        import prometheus_client.multiprocess
    except ImportError as error:
        raise StartError(
            "CPR_SERVE_METRICS is true and prometheus-client is not installed",
            "add prometheus-client to requirements.txt and build again, or unset CPR_SERVE_METRICS",
        ) from error
    return prometheus_client


def _folder() -> str:
    """The folder that the processes share: the environment's, or one that is private and goes with this process."""
    given = os.environ.get(_FOLDER)
    try:
        if given:
            Path(given).mkdir(parents=True, exist_ok=True)
            return given
        made = tempfile.mkdtemp(prefix="cpr-metrics-")
    except OSError as error:
        raise StartError(
            f"there is no folder to count in: {error}",
            f"let the container write to /tmp, or set {_FOLDER} to a folder where it may; or unset CPR_SERVE_METRICS",
        ) from error
    os.environ[_FOLDER] = made
    atexit.register(_remove, made, os.getpid())
    return made


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked worker ends before the others do
        shutil.rmtree(folder, ignore_errors=True)
