"""One `cpr up`, `rollback` or `down` at a time on an endpoint.

The lease is a label of the endpoint, written with its etag: of two that read the endpoint at once, one write is
ABORTED ("Endpoint.etag": consistent read-modify-write updates). It names the program that holds it and when it ends,
so that a killed program's lease is no obstacle: on the same machine at once, elsewhere when its time is over.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cpr_kit.deploy.resources import Endpoint
from cpr_kit.deploy.vertex.calls import Report
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import DeployError

LABEL = "cpr-lease"
_LASTS_S = 2 * 3600
_TRIES = 5
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
    def is_over(self) -> bool:
        if self.until < time.time():
            return True
        return self.machine == _machine() and self.pid != os.getpid() and not _runs(self.pid)


@contextlib.contextmanager
def held(vertex: Vertex, endpoint: Endpoint, *, report: Report, take: bool = False) -> Iterator[None]:
    """Raises DeployError while another program holds the endpoint. `take` takes the lease from it all the same."""
    mine = Holder.of_this_program()
    _acquire(vertex, endpoint, mine, take=take)
    try:
        yield
    finally:
        _release(vertex, endpoint, mine, report)


def clear(vertex: Vertex, endpoint: Endpoint, report: Report) -> None:
    """Take away the lease of a program that is gone: it was killed when it had done everything else."""
    other = Holder.read(endpoint.labels.get(LABEL, ""))
    if other and other.is_over:
        _release(vertex, endpoint, other, report)


def _acquire(vertex: Vertex, endpoint: Endpoint, mine: Holder, *, take: bool) -> None:
    from google.api_core import exceptions

    for _ in range(_TRIES):
        now = vertex.again(endpoint)
        other = Holder.read(now.labels.get(LABEL, ""))
        if other and not other.is_over and other != mine and not take:
            where = "this machine" if other.machine == _machine() else "another machine"
            until = datetime.fromtimestamp(other.until, timezone.utc)
            raise DeployError(
                f"another cpr is at work on endpoint {endpoint.display_name} (process {other.pid} of {where}; "
                f"its lease ends at {until:%H:%M} UTC)",
                "wait until it is done; if you know that it is gone: --take-lease",
            )
        with contextlib.suppress(exceptions.Aborted):
            vertex.update_endpoint(now, {"labels": {**now.labels, LABEL: str(mine)}})
            return
    raise DeployError(f"endpoint {endpoint.display_name} is changed all the time by others", "run it again")


def _release(vertex: Vertex, endpoint: Endpoint, mine: Holder, report: Report) -> None:
    """What is gone needs no release; what cannot be released ends by itself."""
    from google.api_core import exceptions

    for _ in range(_TRIES):
        try:
            now = vertex.again(endpoint)
            if now.labels.get(LABEL) != str(mine):
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
