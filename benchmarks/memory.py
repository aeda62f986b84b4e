"""Memory of four workers against one, with a model of 400 MB: real processes, their proportional set size (PSS).

PSS counts a page that is shared by several processes in parts, so that a sum over them counts it once. Linux only.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PREDICTOR = """
import os
import numpy as np
from cpr_kit import Predictor


class Large(Predictor):
    def load(self, artifacts_uri):
        self.weights = np.ones((int(os.environ["MEGABYTES"]), 1 << 17))

    def predict(self, request):
        return {"predictions": [float(self.weights[:, :8].sum()), os.getpid()]}
"""
BODY = b'{"instances": [1]}'
REQUESTS = 400
MOST = 1.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--port", type=int, default=8491)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cpr-bench-") as folder:
        Path(folder, "large.py").write_text(PREDICTOR)
        one = measure(folder, 1, options)
        many = measure(folder, options.workers, options)
    ratio = many / one
    print(f"model of {options.megabytes} MB, after {REQUESTS} requests\n")
    print(f"| workers | PSS of all processes, MB |\n|---|---|\n| 1 | {one:.0f} |\n| {options.workers} | {many:.0f} |\n")
    print(f"ratio {ratio:.2f}, at most {MOST}")
    return 0 if ratio <= MOST else 1


def measure(folder: str, workers: int, options: argparse.Namespace) -> float:
    environ = {
        **os.environ, "AIP_HTTP_PORT": str(options.port), "CPR_SERVE_HOST": "127.0.0.1", "AIP_STORAGE_URI": "",
        "PREDICTOR_MODULE": "large", "PREDICTOR_CLASS": "Large", "MEGABYTES": str(options.megabytes),
        "VERTEX_CPR_WEB_CONCURRENCY": str(workers),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "cpr_kit.runtime"], cwd=folder, env=environ, stdout=subprocess.DEVNULL
    )
    try:
        asked(options.port, workers)
        return sum(pss(each) for each in (process.pid, *children(process.pid)))
    finally:
        process.terminate()
        process.wait()


def asked(port: int, workers: int) -> None:
    """Until every worker has answered, and as many requests as it takes to touch what a request touches."""
    answered, requests, deadline = set(), 0, time.monotonic() + 120
    while len(answered) < workers or requests < REQUESTS:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {len(answered)} of {workers} workers answered {requests} requests")
        try:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/predict", BODY, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=10) as response:
                answered.add(response.read())
                requests += 1
        except urllib.error.URLError:
            time.sleep(0.05)


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def pss(process: int) -> float:
    return int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
