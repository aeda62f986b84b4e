"""KServe's Python server, protocol v1, one worker. Its batcher is a Go process of its own, so there is none here."""

# ruff: noqa: ARG002  the framework names the arguments

import logging
import os
from typing import Any

import kserve
import work


class Bench(kserve.Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def load(self) -> bool:
        self.work = work.load()
        self.ready = True
        return self.ready

    def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        return {"predictions": self.work(payload["instances"])}


if __name__ == "__main__":
    server = kserve.ModelServer(
        http_port=int(os.environ["BENCH_PORT"]), workers=1, enable_grpc=False, enable_latency_logging=False
    )
    for name in ("uvicorn.access", "kserve.trace"):  # a line for each request, and two more for its times
        logging.getLogger(name).setLevel(logging.WARNING)
    server.start([Bench("bench")])
