"""Good and bad requests by the hundred thousand: the server's memory after them is what it was before.

    python benchmarks/soak.py [--requests 100000] [--connections 32] [--grow 5]

Starts the kit's server with an iris model, prints its memory as it goes, and ends with exit code 1 when the memory
grew by more than `--grow` percent, or when a good request was answered with anything but 200.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

_TRAIN = """
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
x, y = load_iris(return_X_y=True)
skops.io.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), "model.skops")
"""
_WARM_UP = 0.1  # of the requests: caches fill, and the allocator takes what it will keep
_GOOD = b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}'


def request(body: bytes, *headers: bytes, line: bytes = b"POST /predict HTTP/1.1") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join((line, b"Host: model", *(headers or (b"Content-Type: application/json", length)), b"", body))


# Requests that the connection outlives, requests that it does not, and clients that leave.
KEPT = (
    request(b"{"),
    request(b"\xff\xfe"),
    request(b"[" * 5000),
    request(b'{"instances": null}'),
    request(b'{"instances": []}'),
    request(b'{"instances": [[1, 2], [3]]}'),
    request(b'{"instances": [["a", 1, 2, 3]]}'),
    request(b'{"instances": [[NaN, 1, 2, 3]]}'),
    request(b'{"instances": [[%s, 1, 2, 3]]}' % (b"9" * 400)),
    request(b"{}", b"Content-Type: text/html", b"Content-Length: 2"),
    request(b"{}", b"Content-Type: application/json", b"Content-Encoding: gzip", b"Content-Length: 2"),
    request(b"", line=b"GET /predict HTTP/1.1"),
    request(b"", line=b"GET /nothing HTTP/1.1"),
)
ENDED = (
    b"nonsense\r\n\r\n",
    b"GET /health HTTP/1.1\r\n\r\n",
    b"GET /%zz HTTP/1.1\r\nHost: model\r\n\r\n",
    request(b"", b"X: a\0b"),
    request(b"", b"X: " + b"a" * 40_000, b"Content-Length: 0"),
    request(b"zz\r\n", b"Transfer-Encoding: chunked"),
    request(b"", b"Content-Length: 99999999999"),
    request(b"", b"Content-Length: 2", b"Content-Length: 3"),
)
LEFT = (request(b"{", b"Content-Length: 5000"), b"POST /predict HTTP/1.1\r\nHo", request(_GOOD) * 20)


async def worker(port: int, count: int, rng: random.Random, seen: Counter[str]) -> None:
    """`count` requests, of which half are good, on as many connections as the bad ones make necessary."""
    done = 0
    while done < count:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            kept = True
            while kept and done < count:
                kept = await _one(reader, writer, rng, seen)
                done += 1
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random, seen: Counter[str]
) -> bool:
    """Whether the connection can be used again."""
    kind = rng.choices(("good", "kept", "ended", "left"), (50, 30, 15, 5))[0]
    data = {"good": (request(_GOOD),), "kept": KEPT, "ended": ENDED, "left": LEFT}[kind]
    writer.write(rng.choice(data))
    if kind == "left":
        seen["left"] += 1
        return False
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    seen[f"{'good' if kind == 'good' else 'bad'} {head[9:12].decode()}"] += 1
    return kind != "ended" and b"connection: close" not in head.lower()


def memory(pid: int) -> int:
    """Kilobytes that a process and its children have in memory (RSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
    children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return own + sum(memory(int(child)) for each in children for child in each)


async def soak(process: subprocess.Popen[bytes], port: int, options: argparse.Namespace) -> int:
    """The exit code."""
    seen: Counter[str] = Counter()
    rng = random.Random(1)

    async def send(count: int) -> None:
        share = count // options.connections
        await asyncio.gather(*(worker(port, share, rng, seen) for _ in range(options.connections)))

    await _ready(process, port)
    await send(int(options.requests * _WARM_UP))
    before = memory(process.pid)
    print(f"before: {before} kB")
    for part in range(1, 11):
        await send(options.requests // 10)
        print(f"{part * options.requests // 10:>8}: {memory(process.pid)} kB")
    await asyncio.sleep(1)
    after = memory(process.pid)
    grown = (after - before) / before * 100
    print(f"after: {after} kB, {grown:+.1f} %; {dict(sorted(seen.items()))}")
    served = all(name == "good 200" for name in seen if name.startswith("good"))
    return 0 if served and grown <= options.grow and process.poll() is None else 1


async def _ready(process: subprocess.Popen[bytes], port: int) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"", line=b"GET /health HTTP/1.1"))
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            if b" 200 " in head:
                return
        await asyncio.sleep(0.1)
    raise SystemExit("the server ended before it was ready; its log is above")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--grow", type=float, default=5.0, help="percent that the memory may grow")
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", _TRAIN], cwd=folder, check=True)
        environment = {
            "PATH": os.environ["PATH"],
            "AIP_HTTP_PORT": str(port),
            "AIP_STORAGE_URI": folder,
            "CPR_SERVE_HOST": "127.0.0.1",
            "PREDICTOR_MODULE": "cpr_kit",
            "PREDICTOR_CLASS": "SklearnPredictor",
            "VERTEX_CPR_WEB_CONCURRENCY": "1",
        }
        process = subprocess.Popen([sys.executable, "-m", "cpr_kit.runtime"], cwd=folder, env=environment)
        try:
            return asyncio.run(soak(process, port, options))
        finally:
            process.terminate()
            process.wait(90)


if __name__ == "__main__":
    sys.exit(main())
