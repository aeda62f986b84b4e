"""A deployed model's containers: started, asked in turn, and ended together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cpr_kit.emulator.errors import ApiError, cancelled, not_found
from cpr_kit.emulator.serving import launching
from cpr_kit.emulator.serving.keeper import Keeper, Signals
from cpr_kit.emulator.serving.launching import Placement
from cpr_kit.emulator.serving.replica import Replica
from cpr_kit.engine.protocol import Engine, Image

_DRAIN_S = 30.0


class DeployedContainer:
    """`start`, `scale` and `stop` block and belong in a thread; `choose` belongs on the loop.

    `report` gets a line per change of a replica, from any thread. `resolve` gives the reference under which the
    engine has an image.
    """

    def __init__(
        self,
        placement: Placement,
        engine: Engine,
        *,
        report: Callable[[str], None],
        resolve: Callable[[str], str] = lambda reference: reference,
    ) -> None:
        self._placement = placement
        self._required = min(placement.required, placement.replicas)  # replicas may be fewer here than were asked for
        self._engine = engine
        self._resolve = resolve
        self._report = report
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._image: Image | None = None
        self._keepers: list[Keeper] = []
        self._replicas: list[Replica] = []  # replaced as a whole: `choose` reads it without a lock
        self._most = placement.replicas
        self._given_up = False
        self._turn = 0
        self._scaling = threading.Lock()
        self._ending = threading.Lock()

    @property
    def ready_replicas(self) -> int:
        return sum(replica.serving for replica in self._replicas)

    @property
    def log_files(self) -> list[Path]:
        """Of all replicas that there were; a log stays when its replica is scaled away."""
        return [self._placement.log(number) for number in range(self._most)]

    def start(self) -> None:
        """Returns once the required replicas are ready; the others go on by themselves.

        Raises FAILED_PRECONDITION in Vertex AI's words, CANCELLED when `stop` came first; nothing is left then.
        """
        signals = self._new_signals()
        try:
            launching.check(self._placement.spec)
            self._image = launching.find_image(self._placement.spec, self._engine, self._resolve, self._report)
            with self._changed:
                self._add(self._placement.replicas, signals)
                self._replicas = [keeper.replica for keeper in self._keepers]
                self._changed.wait_for(self._is_decided)
                self._check_wanted()
                self._check_failures()
        except BaseException:
            self.stop(0.0)
            raise
        signals.settled.set()

    def scale(self, replicas: int, grace_s: float = _DRAIN_S) -> None:
        """Returns once there are so many, the new ones ready, those that are too many drained and gone: the newest.

        Raises as `start` does when a new one does not become ready; there are as many as before then.
        """
        with self._scaling:
            self._given_up = False
            if replicas > len(self._keepers):
                self._grow(replicas - len(self._keepers))
            else:
                self._shrink(replicas, grace_s)

    def give_up_scaling(self) -> None:
        """A `scale` under way that waits for new replicas ends with CANCELLED, and without them."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def choose(self) -> Replica | None:
        """Of the replicas that get traffic the one with the fewest requests, in turn among equals. No I/O."""
        best: Replica | None = None
        replicas = self._replicas
        if self._stopping.is_set():
            return None
        for step in range(len(replicas)):
            replica = replicas[(self._turn + step) % len(replicas)]
            if replica.serving and (best is None or _rank(replica) < _rank(best)):
                best = replica
        self._turn += 1
        return best

    def kill_replica(self, number: int) -> None:
        """A crash on demand; it blocks. Raises NOT_FOUND when there is no such replica."""
        for keeper in self._keepers:
            if keeper.replica.number == number:
                keeper.kill()
                return
        raise not_found(
            f"{self._placement.display_name} has {len(self._keepers)} replicas, and none is number {number}"
        )

    def stop(self, grace_s: float) -> None:
        """No new requests; those in flight get `grace_s`; then the containers end. Safe to call twice."""
        deadline = time.monotonic() + grace_s
        with self._changed:
            self._stopping.set()
            for keeper in self._keepers:
                keeper.dismiss()
            self._changed.notify_all()
        with self._ending:
            for keeper in self._keepers:
                keeper.replica.wait_until_idle(deadline - time.monotonic())
            self._end(self._keepers)
            self._replicas, self._keepers = [], []

    def _new_signals(self) -> Signals:
        return Signals(changed=self._notify, report=self._report, settled=threading.Event())

    def _add(self, count: int, signals: Signals) -> list[Keeper]:
        """Start more replicas, with `_changed` held: a `stop` comes before all of them or after."""
        self._check_wanted()
        assert self._image is not None
        deadline = time.monotonic() + self._placement.timeout_s
        first = len(self._keepers)
        for number in range(first, first + count):
            self._keepers.append(Keeper(number, self._placement, self._image, self._engine, signals))
        self._most = max(self._most, len(self._keepers))
        for keeper in self._keepers[first:]:
            keeper.start(deadline)
        return self._keepers[first:]

    def _grow(self, count: int) -> None:
        signals = self._new_signals()
        with self._changed:
            added = self._add(count, signals)
            self._changed.wait_for(
                lambda: (
                    self._stopping.is_set()
                    or self._given_up
                    or any(keeper.failure for keeper in added)
                    or all(keeper.replica.serving for keeper in added)
                )
            )
            self._check_wanted()
            failures = [keeper.failure for keeper in added if keeper.failure]
            if self._given_up and not failures:
                failures = [cancelled("The change of replicas was cancelled.")]
            if not failures:
                self._replicas = [keeper.replica for keeper in self._keepers]
        if failures:
            self._drop(added)
            raise failures[0]
        signals.settled.set()

    def _shrink(self, replicas: int, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        leaving = self._keepers[replicas:]
        self._replicas = [keeper.replica for keeper in self._keepers[:replicas]]
        for keeper in leaving:
            keeper.replica.wait_until_idle(deadline - time.monotonic())
        self._drop(leaving)

    def _drop(self, leaving: Sequence[Keeper]) -> None:
        for keeper in leaving:
            keeper.dismiss()
        with self._ending:  # a `stop` in the meantime has ended them
            self._end([keeper for keeper in leaving if keeper in self._keepers])
            self._keepers = [keeper for keeper in self._keepers if keeper not in leaving]

    def _end(self, keepers: Sequence[Keeper]) -> None:
        if keepers:
            with ThreadPoolExecutor(len(keepers), thread_name_prefix="cpr-end") as threads:
                list(threads.map(Keeper.end, keepers))

    def _check_wanted(self) -> None:
        if self._stopping.is_set():
            raise cancelled("The deployment was cancelled.")

    def _check_failures(self) -> None:
        """Raises the first one when the required replicas cannot be had any more."""
        failures = self._failures()
        if len(failures) > self._placement.replicas - self._required:
            raise failures[0]

    def _is_decided(self) -> bool:
        return (
            self._stopping.is_set()
            or self.ready_replicas >= self._required
            or len(self._failures()) > self._placement.replicas - self._required
        )

    def _failures(self) -> list[ApiError]:
        return [keeper.failure for keeper in self._keepers if keeper.failure]

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _rank(replica: Replica) -> tuple[bool, int]:
    return not replica.steady, replica.in_flight
