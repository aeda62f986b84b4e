"""Load on 127.0.0.1: one request, wrk's closed loop, and the open loop of openloop.py as a process of its own."""

import http.client
import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Request:
    port: int
    path: str
    method: str = "POST"
    body: Path | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, kw_only=True)
class Closed:
    """Answers of 200 a second; milliseconds of all answers; whatever was not a 200."""

    rate: float
    p50: float
    p99: float
    failed: int


def ask(request: Request, *, timeout: float = 60) -> tuple[int, bytes]:
    """Status 0 where there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", request.port, timeout=timeout)
    body = request.body.read_bytes() if request.body else None
    try:
        connection.request(request.method, request.path, body, {"Content-Type": request.content_type} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def closed(request: Request, *, connections: int, seconds: float) -> Closed:
    """wrk with one thread: each connection asks again as soon as it is answered."""
    script = (
        f"local file = io.open('{request.body}', 'rb')\nwrk.body = file:read('*a')\nwrk.method = 'POST'\n"
        f"wrk.headers['Content-Type'] = '{request.content_type}'\n"
        "done = function(summary, latency)\n"
        "  local e = summary.errors\n"
        "  print(string.format('RESULT %d %d %d %d %d', summary.requests, summary.duration, e.status,\n"
        "    e.connect + e.read + e.write + e.timeout, latency:percentile(50)) .. ' ' .. latency:percentile(99))\n"
        "end\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency"]
        url = f"http://127.0.0.1:{request.port}{request.path}"
        out = subprocess.run([*command, "-s", file.name, url], capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", out)
    if not found:
        raise RuntimeError(f"wrk said: {out}")
    requests, microseconds, refused, broken, p50, p99 = (float(group) for group in found.groups())
    rate = (requests - refused) / microseconds * 1e6
    return Closed(rate=rate, p50=p50 / 1000, p99=p99 / 1000, failed=int(refused + broken))


def open_loop(python: Path, request: Request, **plan: Any) -> "subprocess.Popen[str]":
    """Started, not awaited: see `result`. `plan` is openloop.Plan's."""
    wanted = {"port": request.port, "path": request.path, "method": request.method}
    if request.body:
        wanted |= {"body": str(request.body), "content_type": request.content_type}
    command = [str(python), str(HERE / "openloop.py"), json.dumps(wanted | plan)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(generator: "subprocess.Popen[str]") -> dict[str, Any]:
    out, _ = generator.communicate()
    if generator.returncode:
        raise RuntimeError(f"the load generator ended with exit code {generator.returncode}")
    return json.loads(out)
