"""The rows that must hold, their targets, and what a run's values say of them. Pure: values in, lines out."""

import math
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# measure -> server -> one dictionary of values for each round
Results = dict[str, dict[str, list[dict[str, float]]]]
# (measure, server) -> why there is nothing
Failures = dict[tuple[str, str], str]

SKIPPED = "skipped"
"""What a reason begins with where this machine cannot measure something at all, whoever is measured."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """`over` is (server, measure, value) to divide by, each round by its own; without it the value itself counts."""

    what: str
    measure: str
    value: str
    over: tuple[str, str, str] | None = None
    least: float | None = None
    most: float | None = None
    unit: str = ""
    beside: str = "google"

    def target(self) -> str:
        if self.least is None and self.most is None:
            return ""
        bound, word = (self.least, "at least") if self.least is not None else (self.most, "at most")
        if self.most == 0:
            return "none"
        return f"{word} {bound:g}" + (f" x {self.over[0]}" if self.over else f" {self.unit}".rstrip())

    def held(self, number: float) -> bool:
        return number >= self.least if self.least is not None else number <= (self.most or 0)


def ratio(what: str, measure: str, value: str, **options: Any) -> Row:
    over = options.pop("over", None) or ("google", measure, value)
    return Row(what=what, measure=measure, value=value, over=over, **options)


ROWS = (
    ratio("requests/s, iris, 64 connections", "iris", "rate64", least=8),
    ratio("the same, against a bare uvicorn app", "iris", "rate64", over=("bare", "iris", "rate64"), least=0.6),
    ratio("requests/s, iris, 16 connections", "iris", "rate16", least=6),
    ratio("p99, iris, 64 connections, ms", "iris", "p99_64", most=0.05),
    ratio("median, iris, 1 connection, ms", "iris", "median1", most=0.8),
    ratio("requests/s, 32 x 784 floats as JSON", "wide", "json", least=6),
    ratio("requests/s, 32 x 784 floats as npy", "npy", "npy", over=("google", "wide", "json"), least=12),
    ratio("requests/s, RandomForest(100), 1 connection, ONNX", "forest", "rate1", least=8),
    *(
        Row(what=f"health p99 during 3 s predicts ({name}), ms", measure="health", value=value, most=50, unit="ms")
        for value, name in {"sleep": "sleep", "python": "Python loop", "numpy": "numpy"}.items()
    ),
    *(
        Row(what=f"5 x capacity ({name}): {what}", measure="overload", value=f"{kind}_{value}", **target)
        for kind, name in {"numpy": "numpy", "python": "Python loop"}.items()
        for value, what, target in (
            ("share", "answered in time, share of peak", {"least": 0.9}),
            ("refusal", "p99 of refusals, ms", {"most": 20, "unit": "ms"}),
            ("late", "answers after their deadline", {"most": 0}),
        )
    ),
    Row(what="four workers, 400 MB numpy model: memory to one", measure="memory", value="ratio", most=1.5, unit="x"),
    ratio("process start to first 200, tiny model, s", "start", "seconds", most=0.2),
    Row(what="idle CPU, percent of a core", measure="idle", value="percent", most=0.5, unit="%"),
    Row(what="modules of google, docker, fastapi in the server", measure="modules", value="forbidden", most=0),
    Row(what="download of 200 files of 1 MB, speed", measure="artifacts", value="ratio", least=3, unit="x google"),
    ratio("image: MB added to its base, iris", "images", "added", most=0.5),
    Row(what="image: kit and server alone, no numpy, MB", measure="images", value="alone", most=40, unit="MB"),
    ratio("image: rebuild after an edited line, s", "images", "rebuild", most=0.15),
    Row(what="image: package installers run by that rebuild", measure="images", value="installs", most=0),
    ratio("image: first build, warm package cache, s", "images", "build", most=0.6),
    ratio("container start to first 200, s", "images", "start", most=0.4),
    ratio("container: memory with default workers, MB", "images", "memory", most=0.35),
    ratio("container: requests/s, default workers, 16 connections", "images", "rate"),
    ratio("requests/s, iris, 64 connections, an author's class", "author", "author", over=("google", "iris", "rate64")),
    ratio("the same with max_batch_rows = 64", "author", "joined", over=("google", "iris", "rate64")),
)  # fmt: skip

PEER_COLUMNS: dict[str, tuple[str, str]] = {
    "requests/s at 64": ("iris", "rate64"),
    "requests/s at 16": ("iris", "rate16"),
    "p99 at 64, ms": ("iris", "p99_64"),
    "median at 1, ms": ("iris", "median1"),
    "start, s": ("start", "seconds"),
    "idle CPU, %": ("idle", "percent"),
    "memory, MB": ("idle", "memory"),
}


def values(results: Results, server: str, measure: str, value: str) -> list[float]:
    return [each[value] for each in results.get(measure, {}).get(server, []) if value in each]


def median(numbers: list[float]) -> float:
    return statistics.median(numbers) if numbers else math.nan


def shown(number: float, *, absent: str = "") -> str:
    if math.isnan(number):
        return absent
    if math.isinf(number):
        return "never"
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"


def ranged(numbers: list[float]) -> str:
    """The median, and what the rounds were from and to."""
    if len(numbers) < 2:
        return shown(median(numbers))
    return f"{shown(median(numbers))} ({shown(min(numbers))} to {shown(max(numbers))})"


def line(row: Row, results: Results, failures: Failures) -> str | None:
    """One line of the table of targets; None for what was not asked for."""
    ours = values(results, "cpr_kit", row.measure, row.value)
    if not ours:
        reason = failures.get((row.measure, "cpr_kit"), "")
        verdict = SKIPPED if reason.startswith(SKIPPED) else "NOT held" if row.target() else ""
        failed = bool(reason)
        return f"| {row.what} | {row.target()} | not measured: see below | | | {verdict} |" if failed else None
    server, measure, value = row.over or (row.beside, row.measure, row.value)
    theirs = values(results, server, measure, value)
    judged = [a / b for a, b in zip(ours, theirs, strict=False)] if row.over else ours
    verdict = "" if not row.target() else "held" if judged and row.held(median(judged)) else "NOT held"
    if row.over and not judged:
        verdict = f"nothing from {server}" if row.target() else ""
    ratios = ranged(judged) if row.over else ""
    mine = shown(median(ours), absent="none") if row.over else ranged(ours) or "none"
    cells = (row.what, row.target(), mine, shown(median(theirs)), ratios, verdict)
    return f"| {' | '.join(cells)} |"


def targets(results: Results, failures: Failures) -> list[str]:
    lines = [found for row in ROWS if (found := line(row, results, failures))]
    head = ["| what | target | cpr_kit | google, or bare | ratio | |", "|---|---|---|---|---|---|"]
    return head + lines if lines else []


def peers(results: Results, names: Callable[[str], str]) -> list[str]:
    """One line a server, medians; `names` gives a server's name with its version."""
    columns = {title: key for title, key in PEER_COLUMNS.items() if results.get(key[0])}
    lines = [f"| iris, one worker | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    seen = {server: None for measure in ("iris", "start", "idle") for server in results.get(measure, {})}
    for server in seen:
        cells = [shown(median(values(results, server, *key))) for key in columns.values()]
        lines.append(f"| {names(server)} | {' | '.join(cells)} |")
    return lines if len(lines) > 2 else []


def reasons(failures: Failures, names: Callable[[str], str]) -> list[str]:
    """Why a server has no numbers, each reason once."""
    told: dict[tuple[str, str], list[str]] = {}
    for (measure, server), reason in failures.items():
        told.setdefault((server, cell(reason)), []).append(measure)
    return [f"- {names(server)}, {', '.join(what)}: {reason}" for (server, reason), what in told.items()]


def cell(text: str) -> str:
    """One line, without this machine's folders."""
    return " ".join(re.sub(r"(/[\w.+-]+)+/", "", text).replace("|", ";").split())[:300]
