"""The same work in several regions at once: one region's failure leaves the others to finish, and is kept.

Ctrl-C ends all of them as it would end one: each leaves its work where it reports something, and gives back its lease.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cpr_kit.deploy.target import Target
from cpr_kit.deploy.vertex.calls import Report
from cpr_kit.errors import CprError, DeployError

Progress = Callable[[str, str], None]
"""Takes a region, and one line about what is being done or waited for there. `print` is one."""

_T = TypeVar("_T")
_GRACE_S = 30.0
_LOOK_S = 0.5


def silent(_region: str, _line: str) -> None:
    """The progress that nobody reads."""


@dataclass(frozen=True, kw_only=True)
class Results(Generic[_T]):
    """What came of each region, in their order: its value, or why it failed."""

    done: Mapping[str, _T]
    failed: Mapping[str, CprError]

    def checked(self) -> Results[_T]:
        """Raises what a single region failed with, and RegionsFailed where one of several did."""
        if self.failed and len(self.failed) + len(self.done) == 1:
            raise next(iter(self.failed.values()))
        if self.failed:
            raise RegionsFailed(self)
        return self


class RegionsFailed(DeployError):
    """Some regions failed. `results` has them, and what came of the others. The exit code is that of all, else 4."""

    def __init__(self, results: Results[Any]) -> None:
        lines = [f"{region}: {error}" for region, error in results.failed.items()]
        rest = f"; {', '.join(results.done)} done" if results.done else ""
        super().__init__(
            "\n".join([f"{len(lines)} of {len(lines) + len(results.done)} regions failed{rest}", *lines]),
            "the same command again mends them, and leaves alone what is done",
        )
        self.results = results
        codes = {error.exit_code for error in results.failed.values()}
        if len(codes) == 1:
            self.exit_code = codes.pop()


class Stopped(BaseException):
    """Raised in a region's thread once the program is to end; no `except Exception` keeps it from that."""


class Stop:
    """Set once the program is to end. Then it raises Stopped in each thread, once: what that leaves behind in order,
    such as a lease that is given back, may take its time.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._thread = threading.local()

    def set(self) -> None:
        self._event.set()

    def sleep(self, seconds: float) -> None:
        if getattr(self._thread, "has_stopped", False):
            time.sleep(seconds)
        elif self._event.wait(seconds):
            self._thread.has_stopped = True
            raise Stopped

    def passes(self, report: Report) -> Report:
        """The report, which raises Stopped first."""

        def told(line: str) -> None:
            self.sleep(0)
            report(line)

        return told


def each(
    targets: Sequence[Target], work: Callable[[Target, Report, Stop], _T], progress: Progress = silent
) -> Results[_T]:
    """`work` for every target, in threads of their own where there are several.

    A CprError is its region's own; anything else is raised, once all have ended.
    """
    stop = Stop()
    done: dict[str, _T] = {}
    failed: dict[str, CprError] = {}
    broken: list[BaseException] = []
    lock = threading.Lock()

    def told(region: str, line: str) -> None:
        with lock:
            progress(region, line)

    def run(target: Target) -> None:
        region = target.region
        try:
            done[region] = work(target, stop.passes(lambda line: told(region, line)), stop)
        except CprError as error:
            failed[region] = error

    def guarded(target: Target) -> None:
        try:
            run(target)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            broken.append(error)

    if len(targets) == 1:
        run(targets[0])  # here, where Ctrl-C arrives
    else:
        _together([threading.Thread(target=guarded, args=(each,), daemon=True) for each in targets], stop)
    if broken:
        raise broken[0]
    order = [target.region for target in targets]
    return Results(
        done={region: done[region] for region in order if region in done},
        failed={region: failed[region] for region in order if region in failed},
    )


def _together(threads: Sequence[threading.Thread], stop: Stop) -> None:
    """Until all have ended. What ends this program gives them a while to leave their work in order."""
    begun: list[threading.Thread] = []
    try:
        for thread in threads:
            begun.append(thread)
            thread.start()
        for thread in threads:
            while thread.is_alive():
                # A signal that comes just before a wait does not end it: no wait is without end.
                thread.join(_LOOK_S)
    except BaseException:
        stop.set()
        deadline = time.monotonic() + _GRACE_S
        for thread in begun:
            while thread.is_alive() and time.monotonic() < deadline:
                thread.join(_LOOK_S)
        raise
