"""BentoML: one service, one worker, adaptive batching of up to 64 rows."""

import os
from typing import Any

import bentoml
import work

BATCH = int(os.environ["BENCH_BATCH"])


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Bench:
    def __init__(self) -> None:
        self.work = work.load()

    @bentoml.api(batchable=BATCH > 1, max_batch_size=max(2, BATCH), max_latency_ms=60_000)
    def predict(self, instances: list[Any]) -> list[Any]:
        return self.work(instances)
