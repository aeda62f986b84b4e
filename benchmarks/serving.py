"""`make bench`: the model server against google-cloud-aiplatform's own, on the same iris model, in one run.

Both serve the same predictor class from this virtual environment, one worker each, in turn. Needs wrk
(apt-get install wrk). Load goes to 127.0.0.1 only.
"""

import argparse
import contextlib
import http.client
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PREDICTOR = """
import time
import joblib
import numpy as np
from {base} import Predictor


class Iris(Predictor):
    def load(self, artifacts_uri, **kwargs):
        self.model = joblib.load("model.joblib")

    def predict(self, request):
        time.sleep(request.get("sleep", 0))
        return {{"predictions": self.model.predict(np.asarray(request["instances"])).tolist()}}
"""
BODY = '{"instances": [[6.7, 3.1, 4.7, 1.5]]}'
SERVERS = {
    "cpr_kit": ("cpr_kit", "cpr_kit.runtime", "cpr_kit.runtime.handler"),
    "google": (
        "google.cloud.aiplatform.prediction.predictor",
        "google.cloud.aiplatform.prediction.model_server",
        "google.cloud.aiplatform.prediction.handler",
    ),
}
SLOW_S = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="how often each server has its turn")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        print("wrk is not installed here; run: apt-get install wrk")
        return 3
    with tempfile.TemporaryDirectory(prefix="cpr-bench-") as folder:
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in SERVERS}
        for _ in range(options.rounds):
            for name in SERVERS:
                measured[name].append(measure(name, prepare(Path(folder), name), options.seconds))
    show(measured)
    return 0


def prepare(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "predictor.py").write_text(PREDICTOR.format(base=SERVERS[name][0]))
    (folder / "post.lua").write_text(
        f"wrk.method='POST'; wrk.body='{BODY}'; wrk.headers['Content-Type']='application/json'"
    )
    train = (
        "import joblib; from sklearn.datasets import load_iris; from sklearn.linear_model import LogisticRegression;"
        "from sklearn.pipeline import make_pipeline; from sklearn.preprocessing import StandardScaler;"
        "model = make_pipeline(StandardScaler(), LogisticRegression()).fit(*load_iris(return_X_y=True));"
        "joblib.dump(model, 'model.joblib')"
    )
    subprocess.run([sys.executable, "-c", train], cwd=folder, check=True)
    return folder


def measure(name: str, folder: Path, seconds: int) -> dict[str, float]:
    with serving(name, folder) as (port, process, start):
        return {
            "start to first 200, s": start,
            "memory after start, MB": resident(process.pid),
            "requests/s, 1 connection": load(folder, port, 1, seconds)["rate"],
            "requests/s, 16 connections": load(folder, port, 16, seconds)["rate"],
            "requests/s, 64 connections": (at_64 := load(folder, port, 64, seconds))["rate"],
            "p99 at 64 connections, ms": at_64["p99"],
            f"slowest health answer during a {SLOW_S} s predict, ms": health_during_predict(port),
        }


@contextlib.contextmanager
def serving(name: str, folder: Path):
    _, module, handler = SERVERS[name]
    port = free_port()
    env = {
        **os.environ, "AIP_HTTP_PORT": str(port), "AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict",
        "AIP_STORAGE_URI": ".", "CPR_SERVE_HOST": "127.0.0.1", "VERTEX_CPR_WEB_CONCURRENCY": "1",
        "HANDLER_MODULE": handler, "HANDLER_CLASS": "PredictionHandler",
        "PREDICTOR_MODULE": "predictor", "PREDICTOR_CLASS": "Iris",
    }  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", module], cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while ask(port, "GET", "/health")[0] != 200:
            if process.poll() is not None or time.monotonic() - began > 60:
                raise SystemExit(f"{name} did not start")
            time.sleep(0.01)
        yield port, process, time.monotonic() - began
    finally:
        process.terminate()
        process.wait()


def load(folder: Path, port: int, connections: int, seconds: int) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", "post.lua"]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/predict"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in out:
        raise SystemExit(out)
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    return {"rate": rate, "p99": float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]}


def health_during_predict(port: int) -> float:
    slow = threading.Thread(target=ask, args=(port, "POST", "/predict", BODY[:-1] + f', "sleep": {SLOW_S}}}'))
    slow.start()
    time.sleep(0.1)
    slowest = 0.0
    while slow.is_alive():
        began = time.monotonic()
        ask(port, "GET", "/health")
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.05)
    return slowest * 1000


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def resident(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def show(measured: dict[str, list[dict[str, float]]]) -> None:
    """A Markdown table of medians; the ratio is the median of the ratios of each round."""
    versions = ", ".join(
        f"{n} {importlib.metadata.version(n)}" for n in ("google-cloud-aiplatform", "uvicorn", "starlette")
    )
    print(f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {versions}\n")
    print("| what | cpr_kit | google | ratio |\n|---|---|---|---|")
    for what in measured["cpr_kit"][0]:
        ours, theirs = ([round_[what] for round_ in measured[name]] for name in SERVERS)
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(f"| {what} | {statistics.median(ours):.4g} | {statistics.median(theirs):.4g} | {ratio:.2g} |")


if __name__ == "__main__":
    sys.exit(main())
