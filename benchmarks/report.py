"""A run's results as Markdown and as a picture, and both into docs/."""

import datetime as dt
import os
import platform
import re
from pathlib import Path
from typing import Any

import chart
import table
from environments import NotHere
from servers import ROOT, SERVERS
from table import Failures, Results

DOCS = ROOT / "docs"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def markdown(results: Results, failures: Failures, about: dict[str, Any]) -> str:
    versions: dict[str, str] = about["versions"]

    def named(server: str) -> str:
        known = versions.get(server, "")
        number = "" if server in ("cpr_kit", "bare") else f" {known.split(',')[0].split(' ')[-1]}"
        return f"{server}{number}".rstrip()

    parts = [machine(about), "\n".join(table.targets(results, failures))]
    if beside := table.peers(results, named):
        parts += ["\n".join(beside), settings(versions)]
    if missing := table.reasons(failures, named):
        parts += ["Not measured:", "\n".join(missing)]
    return "\n\n".join(part for part in parts if part)


def machine(about: dict[str, Any]) -> str:
    """Where and when. `about` is what `describe` said when the run was made."""
    return (
        f"{about['date']}, {about['cores']} cores ({about['processor']}), {about['system']}, Python {about['python']}; "
        f"rounds: {about['rounds']}, {about['seconds']:g} s a measurement, {about['minutes']:.0f} minutes in all. "
        "Medians; a ratio is the median of each round's ratio, with the least and the greatest."
    )


def settings(versions: dict[str, str]) -> str:
    notes = [
        f"- {server}: {SERVERS[server].note} ({known})" if known else f"- {server}: {SERVERS[server].note}"
        for server, known in versions.items()
    ]
    return "\n".join(notes)


def describe(names: list[str], **about: Any) -> dict[str, Any]:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "cores": os.cpu_count(),
        "processor": found[1] if found else platform.machine(),
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "python": platform.python_version(),
        "versions": {name: known(name) for name in names},
        **about,
    }


def known(name: str) -> str:
    try:
        return SERVERS[name].environment.versions()
    except (NotHere, OSError):
        return ""


def picture(results: Results) -> str:
    def column(value: str) -> dict[str, float]:
        servers = [name for name in results.get("iris", {}) if name != "bare"]
        return {name: table.median(table.values(results, name, "iris", value)) for name in servers}

    panels = {"requests a second (more is better)": column("rate64"), "p99, ms (less is better)": column("p99_64")}
    return chart.draw("Iris, StandardScaler + LogisticRegression, 64 connections, one worker each", panels)


def write(text: str, svg: str) -> None:
    """Between the markers of docs/performance.md, and beside it. Raises ValueError when the markers are gone."""
    page = DOCS / "performance.md"
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} needs the two lines {BEGIN} and {END}, between which the results go")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    (DOCS / "performance.svg").write_text(svg)
