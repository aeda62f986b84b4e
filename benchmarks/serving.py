"""`make bench`: the model server against google-cloud-aiplatform's own, LitServe, BentoML, KServe and MLServer.

All serve the same model file, one worker each, in turns within one run. Needs wrk. Load goes to 127.0.0.1 only.
A whole run writes its table and its picture into docs/; a shortened one only prints, unless --write is given.
"""

import argparse
import concurrent.futures
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report
from environments import FOLDER, HERE, NotHere
from measures import MEASURES, Bench, Measure, Values, pairs
from servers import KIT, SERVERS
from table import Failures, Results

LAST = FOLDER / "last.json"


def main() -> int:
    options = arguments()
    if options.redraw:
        saved = json.loads(LAST.read_text())
        return finish(saved["results"], unpacked(saved["failures"]), saved["about"], write=options.write)
    if set(options.only) - {"images"} and not shutil.which("wrk"):
        print("wrk is not installed here; run: apt-get install wrk")
        return 3
    began, failures = time.monotonic(), Failures()
    taking_part = {server for name in options.only for server in MEASURES[name].servers}
    here = installed(options.servers or [each for each in SERVERS if each in taking_part], failures)
    if "cpr_kit" not in here:
        KIT.prepare()  # the load and the models are made there
    results: Results = {name: {} for name in options.only}
    with tempfile.TemporaryDirectory(prefix="cpr-bench-") as folder:
        models = Path(folder) / "models"
        subprocess.run([KIT.python, HERE / "models.py", models], check=True)
        short = {"seconds": 1, "long": 3, "predicts": 1, "idle": 5} if options.quick else {}
        bench = Bench(models=models, scratch=Path(folder), **short)
        for number in range(options.rounds):
            for name in options.only:
                turn(bench, name, asked(name, here, options), number, results, failures)
    about = report.describe(here, rounds=options.rounds, seconds=bench.seconds, minutes=(time.monotonic() - began) / 60)
    packed = [[*key, reason] for key, reason in failures.items()]
    LAST.write_text(json.dumps({"results": results, "failures": packed, "about": about}, indent=1))
    return finish(results, failures, about, write=options.write)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {"type": lambda text: text.split(","), "metavar": "A,B"}
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all of it works")
    parser.add_argument("--rounds", type=int, help="how often each server has its turn (default: 3)")
    parser.add_argument("--only", **names, help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--servers", **names, help=f"of {', '.join(SERVERS)}; these on every measure they can do")
    parser.add_argument("--write", action="store_true", help="write into docs/ after a shortened run too")
    parser.add_argument("--redraw", action="store_true", help="show the last run again")
    options = parser.parse_args()
    options.write = options.write or not (options.quick or options.rounds or options.only or options.servers)
    options.write = options.write and not (options.redraw and "--write" not in sys.argv)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.only = options.only or list(MEASURES)
    for given, all_of_them in ((options.only, MEASURES), (options.servers or [], SERVERS)):
        if unknown := set(given) - set(all_of_them):
            parser.error(f"there is no {', '.join(sorted(unknown))}; choose of {', '.join(all_of_them)}")
    return options


def installed(names: list[str], failures: Failures) -> list[str]:
    here = []
    for name in names:
        try:
            SERVERS[name].environment.prepare()
            here.append(name)
        except NotHere as reason:
            failures["install", name] = str(reason)
    return here


def asked(name: str, here: list[str], options: argparse.Namespace) -> list[str]:
    """Who takes part in a measure: its own servers; with --servers those named that can predict, where it compares."""
    own = MEASURES[name].servers
    return [each for each in here if each in own or (options.servers and len(own) > 1 and each != "bare")]


def turn(bench: Bench, name: str, servers: list[str], number: int, results: Results, failures: Failures) -> None:
    """One round of one measure. Each second round goes backwards, so that none always has the warm machine."""
    measure = MEASURES[name]
    servers = [each for each in servers if (number == 0 or each not in measure.once) and (name, each) not in failures]
    if measure.burst:
        together = [each for each in servers if each in measure.burst.servers]
        compare(bench, name, together, results, failures)
        servers = [each for each in servers if each not in together]
    order = servers if number % 2 == 0 else servers[::-1]
    pool = concurrent.futures.ThreadPoolExecutor(len(order) if measure.together and order else 1)
    with pool:
        futures = {server: pool.submit(attempt, bench, measure, server) for server in order}
    for server, future in futures.items():
        values, reason = future.result()
        if reason:
            failures[name, server] = reason
            print(f"round {number + 1}, {name}, {server}: {reason}", file=sys.stderr, flush=True)
        else:
            results[name].setdefault(server, []).append(values)


def compare(bench: Bench, name: str, servers: list[str], results: Results, failures: Failures) -> None:
    """One round of those that are compared closely: each value of one has its pair of each other."""
    try:
        for server, values in pairs(bench, MEASURES[name].burst, [SERVERS[each] for each in servers]):
            results[name].setdefault(server, []).append(values)
            print(f"{name}, {server}: {told(values)}", file=sys.stderr, flush=True)
    except (NotHere, RuntimeError) as error:
        failures[name, "cpr_kit"] = str(error)


def attempt(bench: Bench, measure: Measure, server: str) -> tuple[Values, str]:
    """The values, or none of them and the reason."""
    try:
        values = measure.run(bench, SERVERS[server])
    except (NotHere, RuntimeError, ValueError, KeyError) as error:
        return {}, str(error) if isinstance(error, NotHere) else f"{type(error).__name__}: {error}"
    print(f"{measure.run.__name__}, {server}: {told(values)}", file=sys.stderr, flush=True)
    return values, ""


def told(values: Values) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in values.items())


def unpacked(failures: list[list[str]]) -> Failures:
    return {(measure, server): reason for measure, server, reason in failures}


def finish(results: Results, failures: Failures, about: dict, *, write: bool) -> int:
    text = report.markdown(results, failures, about)
    print(text)
    if write:
        report.write(text, report.picture(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
