"""The kit's download of a model against upstream's `download_model_artifacts`, blob by blob, in turns in one run.

Both fetch the same objects from a stand-in for Google Cloud Storage on 127.0.0.1, which waits before each
answer as a bucket does. Each round gives both a turn and one ratio; the last line of a table is the median's.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

MB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--megabytes", type=float, default=1, help="the size of each object")
    parser.add_argument("--latency", type=float, nargs="*", default=[5.0, 0.0], help="ms before each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = int(options.megabytes * MB)
    if options.serve:
        import uvloop

        uvloop.run(serve(options.objects, size, options.latency[0] / 1000))
        return 0
    print(f"{options.objects} objects of {options.megabytes:g} MB from a stand-in on 127.0.0.1")
    print(f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}")
    for latency in options.latency:
        show(latency, compare(options, latency), options.objects * options.megabytes)
    return 0


def compare(options: argparse.Namespace, latency: float) -> list[tuple[float, float]]:
    """(kit, upstream) in seconds, one pair a round; the first round warms up and does not count."""
    with bucket(options, latency) as host, tempfile.TemporaryDirectory(prefix="cpr-bench-") as folder:
        os.environ["STORAGE_EMULATOR_HOST"] = host
        tempfile.tempdir, rounds = folder, []
        for number in range(options.rounds + 1):
            turns = [kit, upstream] if number % 2 else [upstream, kit]
            took = {turn: timed(turn, Path(folder), options.objects) for turn in turns}
            rounds.append((took[kit], took[upstream]))
        tempfile.tempdir = None
    return rounds[1:]


def timed(turn, root: Path, objects: int) -> float:
    folder = root / "upstream"
    folder.mkdir()
    os.chdir(folder)
    began = time.perf_counter()
    there = turn()
    seconds = time.perf_counter() - began
    os.chdir(root)
    assert len(list(there.iterdir())) == objects
    shutil.rmtree(folder)
    shutil.rmtree(there, ignore_errors=True)
    for left in root.glob("cpr-artifacts-*"):
        shutil.rmtree(left)
    return seconds


def kit() -> Path:
    from cpr_kit.runtime.storage import depot

    return depot.fetch("gs://bucket/model")


def upstream() -> Path:
    from google.cloud.aiplatform.utils import prediction_utils

    prediction_utils.download_model_artifacts("gs://bucket/model")
    return Path.cwd()


def show(latency: float, rounds: list[tuple[float, float]], megabytes: float) -> None:
    print(f"\nlatency {latency:g} ms\n\n| round | kit, s | upstream, s | ratio |\n|---|---|---|---|")
    for number, (ours, theirs) in enumerate(rounds, 1):
        print(f"| {number} | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f} |")
    ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(theirs / ours for ours, theirs in rounds)
    columns = [f"{seconds:.3f} ({megabytes / seconds:.0f} MB/s)" for seconds in (ours, theirs)]
    print(f"| median | {' | '.join(columns)} | {ratio:.1f} |")


@contextlib.contextmanager
def bucket(options: argparse.Namespace, latency: float):
    command = [sys.executable, __file__, "--serve", "--objects", str(options.objects)]
    command += ["--megabytes", str(options.megabytes), "--latency", str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def serve(objects: int, size: int, latency: float) -> None:
    """Speak enough of the JSON API to list `objects` objects and to send them, whole or a range."""
    content = os.urandom(size)
    md5, crc = digests(content)
    same = {"bucket": "bucket", "size": str(size), "generation": "1", "md5Hash": md5, "crc32c": crc}
    items = [{"name": f"model/{number}.bin", **same} for number in range(objects)]
    listed = json.dumps({"kind": "storage#objects", "items": items}).encode()
    hashes = f"X-Goog-Hash: crc32c={crc},md5={md5}\r\nX-Goog-Generation: 1\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                await asyncio.sleep(latency)
                path = urllib.parse.urlsplit(lines[0].split()[1])
                asked = [line.split("=")[1] for line in lines if line.lower().startswith("range:")]
                if not path.path.startswith("/download"):
                    writer.write(head("200 OK", len(listed), "Content-Type: application/json\r\n") + listed)
                elif asked:
                    start, end = (int(number) for number in asked[0].split("-"))
                    part = memoryview(content)[start : end + 1]
                    writer.write(
                        head(
                            "206 Partial Content",
                            len(part),
                            f"{hashes}Content-Range: bytes {start}-{start + len(part) - 1}/{size}\r\n",
                        )
                    )
                    writer.write(part)
                else:
                    writer.write(head("200 OK", size, hashes))
                    writer.write(content)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def head(status: str, length: int, more: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def digests(content: bytes) -> tuple[str, str]:
    """MD5 and CRC32C in base64, as a bucket's metadata has them."""
    import google_crc32c

    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    return base64.b64encode(md5).decode(), base64.b64encode(google_crc32c.Checksum(content).digest()).decode()


if __name__ == "__main__":
    sys.exit(main())
