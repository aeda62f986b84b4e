"""One `cpr up`, `rollback` or `down` at a time on an endpoint.

The lease is a label of the endpoint, written with its etag: of two that read the endpoint at once, one write is
ABORTED ("Endpoint.etag": consistent read-modify-write updates). It names the program that holds it and when it ends,
so that a killed program's lease is no obstacle: on the same machine at once, elsewhere when its time is over.

A lease is renewed while it is held, and looked at before each change: whoever has lost it changes nothing more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

from cpr_kit.deploy.resources import Endpoint
from cpr_kit.deploy.vertex.calls import Report
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import DeclinedError, DeployError

LABEL = "cpr-lease"
_LASTS_S = 2 * 3600
_RENEWED_AT = 0.75
"""What is left of a lease, of 1, when it is renewed."""
_TRIES = 5
_ENDS_S = 5.0
_WRITES_ENDPOINT = frozenset({"update_endpoint", "set_traffic"})
_CHANGES = _WRITES_ENDPOINT | {
    "set_inference_timeout", "deploy", "undeploy", "rescale", "upload", "alias", "delete_version", "delete_endpoint",
}  # fmt: skip
"""What changes something, of the methods of Vertex that a holder calls."""
_FORM = re.compile(r"([a-z0-9]+)-([0-9]+)-([0-9]+)-([a-z0-9]+)")


@dataclass(frozen=True)
class Holder:
    """A run of a program on a machine, and when its lease ends (seconds since 1970). `run` tells two threads apart."""

    machine: str
    pid: int
    until: int
    run: str

    @classmethod
    def of_this_program(cls) -> Holder:
        return cls(_machine(), os.getpid(), int(time.time()) + _LASTS_S, secrets.token_hex(4))

    @classmethod
    def read(cls, label: str) -> Holder | None:
        found = _FORM.fullmatch(label)
        return cls(found[1], int(found[2]), int(found[3]), found[4]) if found else None

    def __str__(self) -> str:
        return f"{self.machine}-{self.pid}-{self.until}-{self.run}"

    @property
    def told(self) -> str:
        """Who that is, and until when, in words."""
        where = "this machine" if self.machine == _machine() else "another machine"
        until = datetime.fromtimestamp(self.until, timezone.utc)
        return f"process {self.pid} of {where}; its lease ends at {until:%H:%M} UTC"

    def renewed(self) -> Holder:
        return replace(self, until=int(time.time()) + _LASTS_S)

    def is_same(self, other: Holder | None) -> bool:
        """Whether it is one run, whenever its lease was renewed."""
        mine = (self.machine, self.pid, self.run)
        return other is not None and (other.machine, other.pid, other.run) == mine

    @property
    def is_over(self) -> bool:
        if self.until < time.time():
            return True
        return self.machine == _machine() and self.pid != os.getpid() and not _runs(self.pid)


class LeaseLost(DeclinedError):
    """Another run works on the endpoint now; what this one has begun is that one's to finish, or to remove."""


class Lease:
    """A lease that is held. `vertex` looks at it before each change, and changes nothing once it is another's."""

    def __init__(self, vertex: Vertex, endpoint: Endpoint, mine: Holder) -> None:
        self._own = vertex
        self._endpoint = endpoint
        self._mine = mine
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="cpr-lease", daemon=True)

    @property
    def vertex(self) -> Vertex:
        return cast("Vertex", _Leased(self._own, self))

    def check(self) -> None:
        """Before a change that no etag guards. Raises LeaseLost."""
        now = self._own.again(self._endpoint)
        self.check_in(now)
        if (held := Holder.read(now.labels[LABEL])) and held.is_over:  # as after a machine's sleep
            self.renew()

    def check_in(self, endpoint: Endpoint) -> None:
        """In an endpoint that was just read, and that its etag guards. Raises LeaseLost."""
        found = Holder.read(endpoint.labels.get(LABEL, ""))
        if self._mine.is_same(found):
            return
        name = endpoint.display_name
        who = (
            f"another cpr has taken over endpoint {name} ({found.told})"
            if found
            else f"this run's lease on endpoint {name} (its label {LABEL}) was taken away"
        )
        raise LeaseLost(
            f"{who}: this run changes nothing more",
            "wait until the other one is done; then the same command goes on from what is there",
        )

    def renew(self) -> None:
        """Raises LeaseLost."""

        def write(now: Endpoint) -> None:
            self.check_in(now)
            labels = {**now.labels, LABEL: str(self._mine.renewed())}
            self._own.update_endpoint(now, {"labels": labels})

        _written(self._own, self._endpoint, write)

    @contextlib.contextmanager
    def kept(self) -> Iterator[Lease]:
        """Renewed from a thread of its own: a deployment may take longer than a lease lasts."""
        self._keeper.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._keeper.join(_ENDS_S)  # a renewal that still runs finds no lease of its own, or another etag

    def _keep(self) -> None:
        while not self._ended.wait(_LASTS_S * (1 - _RENEWED_AT)):
            try:
                self.renew()
            except LeaseLost:
                return  # the next change says so
            except Exception:  # noqa: BLE001, S112 - what refuses a renewal for now may not the next time
                continue
            except BaseException:  # noqa: BLE001 - the program ends (many.Stopped)
                return


class _Leased:
    """A Vertex whose changes are made by the holder of a lease alone."""

    def __init__(self, own: Vertex, lease: Lease) -> None:
        self._own = own
        self._lease = lease

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._own, name)
        return self._guarded(name, found) if name in _CHANGES else found

    def _guarded(self, name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **fields: Any) -> Any:
            if name in _WRITES_ENDPOINT:
                self._lease.check_in(args[0])
            else:
                self._lease.check()
            return change(*args, **fields)

        return guarded


@contextlib.contextmanager
def held(vertex: Vertex, endpoint: Endpoint, *, report: Report, take: bool = False) -> Iterator[Lease]:
    """Raises DeclinedError while another program holds the endpoint. `take` takes the lease from it all the same."""
    mine = Holder.of_this_program()
    _acquire(vertex, endpoint, mine, take=take)
    try:
        with Lease(vertex, endpoint, mine).kept() as lease:
            yield lease
    finally:
        _release(vertex, endpoint, mine, report)


def clear(vertex: Vertex, endpoint: Endpoint, report: Report) -> None:
    """Take away the lease of a program that is gone: it was killed when it had done everything else."""
    other = Holder.read(endpoint.labels.get(LABEL, ""))
    if other and other.is_over:
        _release(vertex, endpoint, other, report)


def holder(endpoint: Endpoint | None) -> Holder | None:
    """The program that is at work on an endpoint, if there is one."""
    found = Holder.read(endpoint.labels.get(LABEL, "")) if endpoint else None
    return found if found and not found.is_over else None


def check_free(endpoint: Endpoint | None) -> None:
    """Raises DeclinedError while another program holds the endpoint."""
    other = holder(endpoint)
    if endpoint is not None and other is not None:
        raise DeclinedError(
            f"another cpr is at work on endpoint {endpoint.display_name} ({other.told})",
            "wait until it is done; if you know that it is gone: --take-lease",
        )


def _acquire(vertex: Vertex, endpoint: Endpoint, mine: Holder, *, take: bool) -> None:
    def write(now: Endpoint) -> None:
        # An answer that was lost, and the call made again: then the lease is this run's own already.
        if not take and not mine.is_same(Holder.read(now.labels.get(LABEL, ""))):
            check_free(now)
        vertex.update_endpoint(now, {"labels": {**now.labels, LABEL: str(mine)}})

    _written(vertex, endpoint, write)


def _written(vertex: Vertex, endpoint: Endpoint, write: Callable[[Endpoint], None]) -> None:
    """`write` with the endpoint as it is now, again while others change it in between."""
    from google.api_core import exceptions

    for _ in range(_TRIES):
        with contextlib.suppress(exceptions.Aborted):
            write(vertex.again(endpoint))
            return
    raise DeployError(f"endpoint {endpoint.display_name} is changed all the time by others", "run it again")


def _release(vertex: Vertex, endpoint: Endpoint, mine: Holder, report: Report) -> None:
    """What is gone needs no release; what cannot be released ends by itself."""
    from google.api_core import exceptions

    for _ in range(_TRIES):
        try:
            now = vertex.again(endpoint, means=("NotFound",))
            if not mine.is_same(Holder.read(now.labels.get(LABEL, ""))):
                return
            labels = {name: value for name, value in now.labels.items() if name != LABEL}
            vertex.update_endpoint(now, {"labels": labels})
        except exceptions.NotFound:
            return
        except exceptions.Aborted:
            continue
        except Exception as error:  # noqa: BLE001 - the work is done or has failed; the lease is not worth hiding that
            report(f"the lease on {endpoint.display_name} stays until it ends: {error}")
        return


def _machine() -> str:
    """A name for where process ids mean something: this boot of this machine, and in a container that container."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            parts.append(str(Path(path).readlink()) if "/ns/" in path else Path(path).read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
