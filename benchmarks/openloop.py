"""An open-loop load generator: requests leave when the schedule says, whatever became of those before them.

    python openloop.py '{"port": 8080, "rate": 1000, "seconds": 10, "deadline": 1, ...}'

Times count from the schedule, not from the moment of sending, so a server that stalls pays for all who would have
come meanwhile (no coordinated omission). Runs as a process of its own; prints one JSON object. Needs no library;
uses uvloop where it is installed.
"""

import asyncio
import gc
import itertools
import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`deadline`: answers later than this are late. After `give_up` seconds a request counts as unanswered."""

    port: int
    rate: float
    seconds: float
    method: str = "POST"
    path: str = "/predict"
    content_type: str = "application/json"
    body: str | None = None
    deadline: float = 1.0
    give_up: float = 5.0
    even: bool = False
    fresh: bool = False

    def request(self) -> bytes:
        body = Path(self.body).read_bytes() if self.body else b""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAccept: */*\r\n"
        if body:
            head += f"Content-Type: {self.content_type}\r\nContent-Length: {len(body)}\r\n"
        return (head + ("Connection: close\r\n" if self.fresh else "") + "\r\n").encode() + body

    def times(self) -> Iterator[float]:
        """Seconds from the start: Poisson arrivals, the same in every run, or even ones."""
        seed = random.Random(1)
        now = 0.0
        while now < self.seconds:
            yield now
            now += 1 / self.rate if self.even else seed.expovariate(self.rate)


@dataclass(slots=True)
class Call:
    due: float
    sent: float = 0.0
    done: float = 0.0
    status: int = 0


class Connection(asyncio.Protocol):
    """One connection, one request at a time. `call` is None while it is idle."""

    def __init__(self, run: "Run", call: Call) -> None:
        self.run, self.call, self.data, self.size = run, call, b"", 0
        self.transport: Any = None
        self.timer: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send(self.call)

    def send(self, call: Call) -> None:
        self.call, self.data, self.size = call, b"", 0
        call.sent = time.monotonic()
        self.transport.write(self.run.request)
        self.timer = self.run.loop.call_later(call.due + self.run.plan.give_up - call.sent, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.call and (whole := self.whole()):
            self.finish(int(self.data[9:12]), keep=whole == "kept")

    def whole(self) -> str | None:
        """ "kept" or "closing" once the response is all there."""
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self.data[:end].lower()
        before, found, after = head.partition(b"\r\ncontent-length:")
        if found:
            complete = len(self.data) >= end + 4 + int(after.split(b"\r\n", 1)[0])
        else:
            complete = b"chunked" in before and self.data.endswith(b"0\r\n\r\n")
        return ("closing" if b"\r\nconnection: close" in head else "kept") if complete else None

    def finish(self, status: int, *, keep: bool) -> None:
        call, self.call = self.call, None
        self.timer.cancel()
        self.run.answered(call, status)
        if keep and not self.run.plan.fresh:
            self.run.idle.append(self)
        else:
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if self.call:
            self.finish(0, keep=False)
        elif self in self.run.idle:
            self.run.idle.remove(self)


@dataclass
class Run:
    plan: Plan
    loop: asyncio.AbstractEventLoop
    request: bytes
    calls: list[Call] = field(default_factory=list)
    idle: list[Connection] = field(default_factory=list)
    opening: set[Any] = field(default_factory=set)
    opened: int = 0
    open: int = 0

    async def go(self) -> None:
        began = time.monotonic() + 0.05
        for offset in self.plan.times():
            due = began + offset
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self.start(Call(due))
            if len(self.calls) % 64 == 0:
                await asyncio.sleep(0)  # a generator that is behind must still read its answers
        end = time.monotonic() + self.plan.give_up + 1
        while self.open and time.monotonic() < end:  # noqa: ASYNC110  an event would cost each answer its check
            await asyncio.sleep(0.01)

    def start(self, call: Call) -> None:
        self.calls.append(call)
        self.open += 1
        if self.idle:
            self.idle.pop().send(call)
        else:
            self.opened += 1
            task = self.loop.create_task(self.connect(call))
            self.opening.add(task)
            task.add_done_callback(self.opening.discard)

    async def connect(self, call: Call) -> None:
        try:
            await self.loop.create_connection(lambda: Connection(self, call), "127.0.0.1", self.plan.port)
        except OSError:
            self.answered(call, 0)

    def answered(self, call: Call, status: int) -> None:
        call.status, call.done = status, time.monotonic()
        self.open -= 1

    def report(self) -> dict[str, Any]:
        """Milliseconds. `in_time` counts answers within the deadline that came before the schedule's end."""
        first = self.calls[0].due
        good = [call for call in self.calls if call.status == 200]
        refused = [call for call in self.calls if call.status in (429, 503)]
        in_time = [c for c in good if c.done - c.due <= self.plan.deadline and c.done - first <= self.plan.seconds]
        counts = itertools.groupby(sorted(call.status for call in self.calls))
        return {
            "plan": asdict(self.plan),
            "offered": len(self.calls) / self.plan.seconds,
            "statuses": {status: len(list(group)) for status, group in counts},
            "goodput": len(in_time) / self.plan.seconds,
            # Late by the server's clock: the generator's own lag is not the server's.
            "late": sum(call.done - call.sent > self.plan.deadline for call in good),
            "unanswered": sum(call.status == 0 for call in self.calls),
            "answers": spread([call.done - call.due for call in good]),
            "refusals": spread([call.done - call.due for call in refused]),
            "lag": spread([call.sent - call.due for call in self.calls if call.sent]),
            "connections": self.opened,
        }


def spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    ordered = sorted(seconds)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in at.items()}


def main(text: str) -> None:
    plan = Plan(**json.loads(text))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        import uvloop

        loop = uvloop.new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    run = Run(plan, loop, plan.request())
    gc.disable()
    loop.run_until_complete(run.go())
    print(json.dumps(run.report()))


if __name__ == "__main__":
    main(sys.argv[1])
