"""Faults on demand, so that programs can test their own retries: `--fault` and the admin route, one grammar for both.

    CALL[:KEY=VALUE]...    predict:latency=200ms             every predict takes 200 ms longer
                           predict:status=503:share=10%      one in ten is refused
                           DeployModel:fail="no room":count=1    the operation ends with this error, once
                           replica:die:after=100             a replica is killed at the 101st request
                           DeployModel:lost:count=1          the call takes effect, its answer never arrives
                           upload:location=europe-west4:status=503    in that location alone

CALL is a method in any spelling, a service, `storage`, a method of it (`storage.objects.insert`), `oauth2.token`,
`replica` or `*`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cpr_kit.emulator.calls import ANY, REPLICA, begins_operation, canonical, has_location, suggestion
from cpr_kit.emulator.errors import ApiError, Code, not_found
from cpr_kit.emulator.names import LOCATION
from cpr_kit.errors import UsageError

_PER_SECOND = {"ms": 1000.0, "s": 1.0, "m": 1 / 60}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m)")
_LAST_CODE = 16
_KEYS = {
    "latency": "latency=200ms",
    "status": "status=503 or status=UNAVAILABLE",
    "message": "message=TEXT",
    "retry_after": "retry_after=2s",
    "fail": "fail=TEXT",
    "code": "code=9 or code=FAILED_PRECONDITION",
    "die": "die",
    "lost": "lost",
    "location": "location=europe-west4",
    "count": "count=N",
    "after": "after=N",
    "share": "share=10% or share=0.1",
}
_FLAGS = ("die", "lost")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`count` is how often it strikes, `after` how many calls it lets pass before, `share` how likely it is."""

    call: str
    latency_s: float = 0.0
    code: Code | None = None
    http_status: int | None = None
    """The status over REST, where it was given as a number."""
    message: str = ""
    retry_after_s: float | None = None
    fail: str | None = None
    """The call's operation ends with this message and `code`."""
    die: bool = False
    """The replica that the request was for is killed."""
    lost: bool = False
    """The call takes effect. Its answer is `code`'s refusal, or, without one, never comes: the connection ends."""
    location: str = ""
    """Only calls for what is in this location."""
    count: int | None = None
    after: int = 0
    share: float = 1.0

    @property
    def most(self) -> int | None:
        """How often it strikes; a replica dies once, if nothing else was asked for."""
        return 1 if self.die and self.count is None else self.count

    @property
    def refuses(self) -> bool:
        return self.code is not None and self.fail is None

    @property
    def ends(self) -> bool:
        """Whether it ends what it strikes, so that no other such fault strikes with it."""
        return self.code is not None or self.die or self.lost

    def __str__(self) -> str:
        """As `parse` takes it."""
        service, _, method = self.call.partition(".")
        options = {
            "location": self.location or None,
            "latency": f"{_digits(self.latency_s * 1000)}ms" if self.latency_s else None,
            "status": str(self.http_status or (self.code.name if self.code else "")) if self.refuses else None,
            "message": self.message or None,
            "retry_after": None if self.retry_after_s is None else f"{_digits(self.retry_after_s)}s",
            "fail": self.fail,
            "code": self.code.name if self.fail is not None and self.code else None,
            "count": None if self.count is None else str(self.count),
            "after": str(self.after) if self.after else None,
            "share": repr(self.share) if self.share < 1 else None,
        }
        name = method if method and service != "storage" else self.call
        parts = [f"{key}={_quoted(value)}" for key, value in options.items() if value is not None]
        return ":".join([name, *(flag for flag in _FLAGS if getattr(self, flag)), *parts])


class FaultError(ApiError):
    """A refusal that a fault made; over REST a Retry-After header belongs to it where `retry_after_s` is set."""

    def __init__(self, fault: Fault) -> None:
        text = fault.message or f"A fault on demand: {fault}"
        super().__init__(fault.code or Code.UNAVAILABLE, text, http_status=fault.http_status)
        self.fault = fault
        self.retry_after_s = fault.retry_after_s

    @property
    def cuts(self) -> bool:
        """No answer belongs to it: over HTTP the connection ends, which over gRPC is UNAVAILABLE."""
        return self.fault.lost and self.fault.code is None


@dataclass
class _Entry:
    number: int
    fault: Fault
    seen: int = 0
    struck: int = 0

    def covers(self, call: str, location: str) -> bool:
        pattern = self.fault.call
        if self.fault.location not in ("", location):
            return False
        if pattern == ANY:
            return call != REPLICA
        return call == pattern or call.startswith(f"{pattern}.")

    def strikes(self, random: random.Random, able: bool) -> bool:
        self.seen += 1
        if not able or self.seen <= self.fault.after or self.struck == self.fault.most:
            return False
        if random.random() >= self.fault.share:
            return False
        self.struck += 1
        return True


class Faults:
    """The faults in force. Used from the emulator's loop alone."""

    def __init__(self, faults: Iterable[Fault] = (), *, rng: random.Random | None = None) -> None:
        self._random = rng or random.Random()  # noqa: S311 - no secret
        self._entries: list[_Entry] = []
        self._number = 0
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> int:
        """The number to remove it by."""
        self._number += 1
        self._entries.append(_Entry(self._number, fault))
        return self._number

    def remove(self, number: int) -> None:
        kept = [entry for entry in self._entries if entry.number != number]
        if len(kept) == len(self._entries):
            raise not_found(f"There is no fault {number}.")
        self._entries = kept

    def clear(self) -> None:
        self._entries = []

    def entries(self) -> list[dict[str, object]]:
        """For the admin route: each fault with its number and how often it was met and struck."""
        return [
            {"id": entry.number, "fault": str(entry.fault), "calls": entry.seen, "struck": entry.struck}
            for entry in self._entries
        ]

    def for_call(self, name: str, location: str = "", *, able: bool = True) -> Fault | None:
        """What befalls this call as it comes in: the latencies together, and the first refusal. It counts.

        Not `able`: there is nothing to strike, so that the call is only met.
        """
        return self._meet(name, location, [entry for entry in self._entries if entry.fault.fail is None], able=able)

    def for_operation(self, name: str, location: str = "") -> Fault | None:
        """What befalls the work that this call began: a fault with `fail`, which has a latency at most beside it."""
        return self._meet(name, location, [entry for entry in self._entries if entry.fault.fail is not None])

    async def apply_before(self, name: str, location: str = "") -> Fault | None:
        """Wait and refuse as `for_call` says. Raises FaultError. The fault is given back for the console; for one with
        `lost`, which strikes once the call is done, the caller raises the FaultError.
        """
        fault = self.for_call(name, location)
        if fault is None:
            return None
        await asyncio.sleep(fault.latency_s)
        if fault.code is not None and not fault.lost:
            raise FaultError(fault)
        return fault

    async def apply_operation(self, name: str, location: str = "") -> None:
        """Before the work of an operation (or of a batch job). Raises ApiError, which its end then carries."""
        fault = self.for_operation(name, location)
        if fault is None:
            return
        await asyncio.sleep(fault.latency_s)
        raise ApiError(fault.code or Code.FAILED_PRECONDITION, fault.fail or "")

    def _meet(self, name: str, location: str, entries: list[_Entry], *, able: bool = True) -> Fault | None:
        if not entries:
            return None
        call = canonical(name) or name
        met: Fault | None = None
        for entry in entries:
            # Of several that end the call only one strikes, so that counts follow each other: two 503, then a 429.
            if not entry.covers(call, location) or (entry.fault.ends and met is not None and met.ends):
                continue
            if entry.strikes(self._random, able):
                latency = entry.fault.latency_s + (met.latency_s if met else 0.0)
                met = dataclasses.replace(entry.fault if entry.fault.ends or met is None else met, latency_s=latency)
        return met


def parse(value: object) -> Fault:
    """A fault from `--fault TEXT`, or from the admin route's JSON: `{"call": "predict", "latency": "200ms"}`.

    Raises UsageError, which says what is allowed.
    """
    if isinstance(value, str):
        call, *parts = _split(value)
        options: dict[str, str | None] = {}
        for part in parts:
            key, equals, text = part.partition("=")
            if key.strip() in options:
                raise UsageError(f'the fault {value} has "{key.strip()}" twice')
            options[key.strip()] = _unquoted(text.strip()) if equals else None
    elif isinstance(value, Mapping):
        call = value.get("call", "")
        options = {key: _option(key, given) for key, given in value.items() if key != "call" and given is not False}
    else:
        raise UsageError(f"a fault is a text or an object with a call, not {value!r}")
    return _build(str(call).strip(), options)


def _option(key: str, given: object) -> str | None:
    if given is True or given is None:
        return None
    if isinstance(given, (str, int, float)):
        return str(given)
    raise UsageError(f'a fault\'s "{key}" is a text or a number, not {given!r}')


def _build(call: str, options: Mapping[str, str | None]) -> Fault:
    name = canonical(call)
    if name is None:
        raise UsageError(f'a fault was asked for "{call}", which is no call{suggestion(call)}')
    for key, text in options.items():
        if key not in _KEYS:
            raise UsageError(
                f'a fault on {call} has "{key}", which is nothing that it can have: {"; ".join(_KEYS.values())}. '
                "A text with a colon in it stands in quotes"
            )
        if bool(text) is (key in _FLAGS):
            raise UsageError(f"a fault on {call}: write {_KEYS[key]}")
    _refuse_contradictions(call, name, options)
    status, code, share = options.get("status"), options.get("code"), options.get("share")
    retry_after, latency, fail = options.get("retry_after"), options.get("latency"), options.get("fail")
    refusal, http_status = _status(status) if status is not None else (None, None)
    if fail is not None:
        refusal = Code.FAILED_PRECONDITION if code is None else _code(code)
    return Fault(
        call=name,
        latency_s=_seconds("latency", latency) if latency is not None else 0.0,
        code=refusal,
        http_status=http_status,
        message=options.get("message") or "",
        retry_after_s=_seconds("retry_after", retry_after) if retry_after is not None else None,
        fail=fail,
        die="die" in options,
        lost="lost" in options,
        location=options.get("location") or "",
        count=_number("count", options["count"], 1) if "count" in options else None,
        after=_number("after", options["after"], 0) if "after" in options else 0,
        share=_share(share) if share is not None else 1.0,
    )


def _refuse_contradictions(call: str, name: str, options: Mapping[str, str | None]) -> None:
    given = options.keys()
    needs = {"message": "status", "retry_after": "status", "code": "fail"}
    if missing := [(key, other) for key, other in needs.items() if key in given and other not in given]:
        key, other = missing[0]
        raise UsageError(f"a fault on {call} has {key}=, which belongs to {other}=: write {_KEYS[other]} too")
    if name == REPLICA and given & {"status", "fail", "latency", "lost"}:
        raise UsageError(
            "a fault on a replica is die, with after=, count=, share= or location=; for the rest, name a call"
        )
    if "die" in given and name != REPLICA:
        raise UsageError(f"a fault on {call} has die, which is for replica alone: write replica:die")
    if {"status", "fail"} <= given:
        raise UsageError(
            f"a fault on {call} has status= (the call is refused) and fail= (its operation fails): take one"
        )
    if {"lost", "fail"} <= given:
        raise UsageError(
            f"a fault on {call} has lost (the call's answer never arrives) and fail= (its operation fails): take one"
        )
    location = options.get("location")
    if location is not None and not LOCATION.fullmatch(location):
        raise UsageError(f"a fault on {call} has location={location}: it is a location's name such as europe-west4")
    if location is not None and not has_location(name):
        raise UsageError(f"a fault on {call} has location=, but what that call is about has no location in its name")
    if not given & {"status", "fail", "latency", "die", "lost"}:
        what = "die" if name == REPLICA else "latency=, status=, lost or fail="
        raise UsageError(f"a fault on {call} does not say what happens: give it {what}")
    if "fail" in given and not begins_operation(name):
        raise UsageError(f"a fault on {call} has fail=, but that call begins no operation: use status=")


def _status(text: str) -> tuple[Code, int | None]:
    if text.isascii() and text.isdigit() and 400 <= int(text[:4]) <= 599 and len(text) == len("400"):  # noqa: PLR2004
        return Code.of_http(int(text)), int(text)
    if text.upper() in Code.__members__:
        return Code[text.upper()], None
    raise UsageError(f"a fault has status={text}: it is an HTTP status from 400 to 599 or one of {_code_names()}")


def _code(text: str) -> Code:
    if text.isascii() and text.isdigit() and len(text) <= len("16") and 1 <= int(text) <= _LAST_CODE:
        return Code(int(text))
    if text.upper() in Code.__members__:
        return Code[text.upper()]
    raise UsageError(f"a fault has code={text}: it is a number from 1 to {_LAST_CODE} or one of {_code_names()}")


def _code_names() -> str:
    return ", ".join(Code.__members__)


def _seconds(key: str, text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"a fault has {key}={text}: it is a number with ms, s or m behind it, such as 200ms")
    return float(match[1]) / _PER_SECOND[match[2]]


def _number(key: str, text: str | None, least: int) -> int:
    if text and re.fullmatch(r"[0-9]{1,9}", text) and int(text) >= least:
        return int(text)
    raise UsageError(f"a fault has {key}={text}: it is a whole number from {least}")


def _share(text: str) -> float:
    percent = text.endswith("%")
    try:
        share = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise UsageError(f"a fault has share={text}: it is a share of the calls such as 10% or 0.1, and not 0")
    return share


def _split(text: str) -> list[str]:
    """The parts between colons, those in quotes left alone."""
    parts = [""]
    quote, escaped = "", False
    for char in text:
        if not quote and char == ":":
            parts.append("")
            continue
        if not quote and char in "\"'" and parts[-1].rstrip().endswith("="):
            quote = char
        elif quote and not escaped and char == quote:
            quote = ""
        escaped = bool(quote) and char == "\\" and not escaped
        parts[-1] += char
    if quote:
        raise UsageError(f"the fault {text} has a {quote} that does not end")
    return parts


def _digits(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]:
        return re.sub(r"\\([\"'\\])", r"\1", text[1:-1])
    return text


def _quoted(text: str) -> str:
    if re.fullmatch(r"[\w.%-]+(?: [\w.%-]+)*", text):
        return text
    return '"' + re.sub(r"([\"\\])", r"\\\1", text) + '"'
