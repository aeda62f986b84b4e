"""What the emulator of Vertex AI costs: `cpr emulate`, a real container behind it, and the SDK and wrk as its clients.

    python benchmarks/emulator.py [--rounds 5] [--write]

Needs a docker engine that has the image python:3.11-slim, and wrk. The model is a bare server of the standard library,
so that what is measured is the emulator. --write puts the table into docs/performance.md. The machine should be quiet.
"""

import argparse
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import load
import processes
import report

IMAGE = "python:3.11-slim"
REGION = "us-central1"
HOST = f"{REGION}-aiplatform.googleapis.com"
BODIES = {
    "1 x 4 floats": [[5.1, 3.5, 1.4, 0.2]],
    "100 x 100 floats": [[row + column / 7 for column in range(100)] for row in range(100)],
}
SMALL, LARGE = BODIES
PAIRS = {SMALL: 300, LARGE: 60}
WAYS = ("REST, plain", "REST, proxy", "gRPC, own port", "gRPC, proxy")
WARM = 20
CONNECTIONS = 16
LOAD_S = 5
HTTP_OK = 200
VERSIONS = ("google-cloud-aiplatform", "grpcio", "aiohttp", "uvicorn")
BEGIN, END = "<!-- emulator:begin -->", "<!-- emulator:end -->"

SERVER = """
import asyncio, json, os, signal

class Http(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        while b"\\r\\n\\r\\n" in self.data:
            head, _, rest = self.data.partition(b"\\r\\n\\r\\n")
            fields = dict(line.lower().split(b":", 1) for line in head.split(b"\\r\\n")[1:])
            length = int(fields.get(b"content-length", 0))
            if len(rest) < length:
                return
            body, self.data = rest[:length], rest[length:]
            answer = b"{}"
            if length:
                answer = json.dumps({"predictions": [sum(row) for row in json.loads(body)["instances"]]}).encode()
            start = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
            self.transport.write(start % len(answer) + answer)

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
    server = await asyncio.get_running_loop().create_server(Http, "0.0.0.0", int(os.environ["AIP_HTTP_PORT"]))
    await server.serve_forever()

asyncio.run(main())
"""


def digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2f}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """`values`: one for each round."""

    what: str
    values: list[float]
    unit: str
    most: float | None = None
    least: float | None = None

    def line(self) -> str:
        middle = statistics.median(self.values)
        spread = f" ({digits(min(self.values))} to {digits(max(self.values))})" if len(self.values) > 1 else ""
        if self.most is None and self.least is None:
            target = verdict = ""
        else:
            word, bound = ("at most", self.most) if self.most is not None else ("at least", self.least)
            target = f"{word} {bound:g} {self.unit}"
            held = middle <= self.most if self.most is not None else middle >= (self.least or 0)
            verdict = "held" if held else "**missed**"
        return f"| {self.what}, {self.unit} | {target} | {digits(middle)}{spread} | {verdict} |"


# Within `cpr emulate --`


class Program:
    """The clients: an endpoint of its own, asked in each way."""

    def __init__(self) -> None:
        import requests
        from google.cloud import aiplatform_v1 as v1

        self.v1 = v1
        self.url = os.environ["STORAGE_EMULATOR_HOST"]
        self.http = requests.Session()
        self.parent = f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/locations/{REGION}"
        self.model = self.done(self.post("models:upload", model=self.spec()))["model"]
        self.endpoint = self.done(self.post("endpoints", displayName="bench"))["name"]

    def spec(self) -> dict[str, Any]:
        routes = {"predictRoute": "/predict", "healthRoute": "/health", "ports": [{"containerPort": 8080}]}
        spec = {"imageUri": IMAGE, "command": ["python", "-c", SERVER], **routes}
        return {"displayName": "bench", "containerSpec": spec}

    def post(self, path: str, **content: Any) -> dict[str, Any]:
        base = path if path.startswith("projects/") else f"{self.parent}/{path}"
        answer = self.http.post(f"{self.url}/v1/{base}", json=content)
        answer.raise_for_status()
        return answer.json()

    def done(self, operation: dict[str, Any]) -> dict[str, Any]:
        while not operation.get("done"):
            operation = self.http.get(f"{self.url}/v1/{operation['name']}").json()
        if "error" in operation:
            raise SystemExit(f"{operation['error']}")
        return operation["response"]

    def deploy(self) -> str:
        machine = {"machineType": "n1-standard-2"}
        deployed = {"model": self.model, "dedicatedResources": {"machineSpec": machine, "minReplicaCount": 1}}
        asked = self.post(f"{self.endpoint}:deployModel", deployedModel=deployed, trafficSplit={"0": 100})
        return self.done(asked)["deployedModel"]["id"]

    def undeploy(self, deployed: str) -> None:
        self.done(self.post(f"{self.endpoint}:undeployModel", deployedModelId=deployed))

    def over_http(self, url: str, instances: Any) -> Callable[[], None]:
        body, headers = json.dumps({"instances": instances}), {"Content-Type": "application/json"}

        def ask() -> None:
            answer = self.http.post(url, body, headers=headers)
            if answer.status_code != HTTP_OK:
                raise SystemExit(f"{url}: {answer.status_code} {answer.text[:300]}")
            answer.json()

        return ask

    def over_grpc(self, host: str, instances: Any) -> Callable[[], None]:
        client = self.v1.PredictionServiceClient(client_options={"api_endpoint": host})
        request = self.v1.PredictRequest(endpoint=self.endpoint)
        for row in instances:
            self.v1.PredictRequest.pb(request).instances.add().list_value.extend(row)

        def ask() -> None:
            if len(client.predict(request).predictions) != len(instances):
                raise SystemExit("the answer has another length")

        return ask

    def ways(self, container: str, instances: Any) -> dict[str, Callable[[], None]]:
        path = f"v1/{self.endpoint}:predict"
        own = self.url.removeprefix("http://").replace("127.0.0.1", "localhost")
        return {
            "container": self.over_http(f"{container}/predict", instances),
            "REST, plain": self.over_http(f"{self.url}/{path}", instances),
            "REST, proxy": self.over_http(f"https://{HOST}/{path}", instances),
            "gRPC, own port": self.over_grpc(own, instances),
            "gRPC, proxy": self.over_grpc(HOST, instances),
        }


def medians(ways: dict[str, Callable[[], None]], pairs: int) -> dict[str, float]:
    """Milliseconds. All ways in turn, in any order, so that whatever else the machine does falls on each."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for _ in range(pairs):
        random.shuffle(order)
        for way in order:
            start = time.perf_counter()
            ways[way]()
            times[way].append((time.perf_counter() - start) * 1000)
    return {way: statistics.median(taken) for way, taken in times.items()}


def rate(url: str, path: str) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps({"instances": BODIES[SMALL]}))
        file.flush()
        request = load.Request(port=int(url.rpartition(":")[2]), path=path, body=Path(file.name))
        done = load.closed(request, connections=CONNECTIONS, seconds=LOAD_S)
    if done.failed:
        raise SystemExit(f"{done.failed} requests failed")
    return done.rate


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.strip()


def address(container: str) -> str:
    return f"http://{docker('port', container).split()[-1]}"


def plain_start() -> float:
    """Seconds from `docker run` to the first answer of the container's health route."""
    port, name = processes.free_port(), f"cpr-bench-{uuid.uuid4().hex}"
    options = ["-d", "--name", name, "-e", "AIP_HTTP_PORT=8080", "-p", f"127.0.0.1:{port}:8080"]
    start = time.perf_counter()
    try:
        docker("run", *options, IMAGE, "python", "-c", SERVER)
        while load.ask(load.Request(port=port, path="/health", method="GET"), timeout=5)[0] != HTTP_OK:
            time.sleep(0.005)
        return time.perf_counter() - start
    finally:
        docker("rm", "-f", name)


def containers() -> set[str]:
    return set(docker("ps", "-q", "--filter", f"ancestor={IMAGE}").split())


def within(rounds: int) -> dict[str, Any]:
    program = Program()
    found: dict[str, Any] = {name: [] for name in ("plain", "deploy", "rate", "bare", *BODIES)}
    for _ in range(rounds):
        found["plain"].append(plain_start())
        before = containers()
        start = time.perf_counter()
        deployed = program.deploy()
        found["deploy"].append(time.perf_counter() - start)
        [container] = containers() - before
        for body, instances in BODIES.items():
            ways = program.ways(address(container), instances)
            medians(ways, WARM)
            found[body].append(medians(ways, PAIRS[body]))
        found["bare"].append(rate(address(container), "/predict"))
        found["rate"].append(rate(program.url, f"/v1/{program.endpoint}:predict"))
        program.undeploy(deployed)
    return found


# Around it


def ready() -> tuple[float, float]:
    """Seconds from the start of the process to the first answer of a call, in plain mode, and the CPU's until then."""
    command = [sys.executable, "-m", "cpr_kit", "emulate", "--json", "--engine", "docker"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        try:
            assert running.stdout is not None
            port = int(json.loads(running.stdout.readline())["url"].rpartition(":")[2])
            path = f"/v1/projects/bench/locations/{REGION}/endpoints"
            status, _ = load.ask(load.Request(port=port, path=path, method="GET"))
            took = time.perf_counter() - start, processes.cpu(running.pid)
        finally:
            running.terminate()
    if status != HTTP_OK:
        raise SystemExit(f"{path}: {status}")
    return took


def measure(rounds: int) -> dict[str, Any]:
    starts, cpu = zip(*(ready() for _ in range(rounds)), strict=True)
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
        own = [sys.executable, __file__, "--rounds", str(rounds), "--within", file.name]
        command = [sys.executable, "-m", "cpr_kit", "emulate", "--engine", "docker", "--", *own]
        with tempfile.TemporaryFile("w+") as shown:
            if subprocess.run(command, check=False, stderr=shown).returncode:
                shown.seek(0)
                raise SystemExit(shown.read()[-3000:])
        return {"ready": list(starts), "cpu": list(cpu), **json.load(file)}


def rows(found: dict[str, Any]) -> list[Row]:
    kept = [
        Row(what="`cpr emulate`: process start to the first answer", values=found["ready"], unit="s", most=2),
        Row(what="`cpr emulate`: CPU time until then", values=found["cpu"], unit="s"),
    ]
    for body in BODIES:
        own = [each["container"] for each in found[body]]
        kept.append(Row(what=f"predict, {body}: the container itself", values=own, unit="ms"))
        for way in WAYS:
            values = [each[way] - each["container"] for each in found[body]]
            most = (5 if "proxy" in way else 3) if body == SMALL else None
            kept.append(Row(what=f"predict, {body}: added by {way}", values=values, unit="ms", most=most))
    wrk, per_second = f"wrk, {CONNECTIONS} connections, {SMALL}", "requests/s"
    added = [after - before for after, before in zip(found["deploy"], found["plain"], strict=True)]
    return [
        *kept,
        Row(what=f"{wrk}: the container itself", values=found["bare"], unit=per_second),
        Row(what=f"{wrk}: through the emulator", values=found["rate"], unit=per_second, least=500),
        Row(what="`docker run` to a healthy container", values=found["plain"], unit="s"),
        Row(what="deployModel of a present image: added to that", values=added, unit="s", most=1),
    ]


def text(found: dict[str, Any], rounds: int) -> str:
    about = report.describe([])
    engine = docker("version", "--format", "docker {{.Server.Version}}")
    versions = ", ".join([engine, *(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS)])
    where = (
        f"{about['date']}, {about['cores']} shared cores ({about['processor']}), {about['system']}, Python "
        f"{about['python']}, {versions}; rounds: {rounds}. "
        "Medians of the rounds, with the least and the greatest."
    )
    head = ["| what | target | measured | |", "|---|---|---|---|"]
    return "\n".join([where, "", *head, *(row.line() for row in rows(found))])


def write(table: str) -> None:
    page = report.DOCS / "performance.md"
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} needs the two lines {BEGIN} and {END}, between which the results go")
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.within:
        given.within.write_text(json.dumps(within(given.rounds)))
        return
    table = text(measure(given.rounds), given.rounds)
    print(table)
    if given.write:
        write(table)


if __name__ == "__main__":
    main()
