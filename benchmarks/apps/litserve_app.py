"""LitServe: batches of 64 rows' requests, ZeroMQ in place of a manager's queue, one API process, one worker."""

# ruff: noqa: ARG002  the framework names the arguments

import os
from typing import Any

import litserve
import work


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.work = work.load()

    def decode_request(self, request: dict[str, Any]) -> Any:
        return request["instances"]

    def batch(self, inputs: list[Any]) -> Any:
        self.counts = [len(rows) for rows in inputs]
        return [row for rows in inputs for row in rows]

    def predict(self, rows: Any) -> Any:
        return self.work(rows)

    def unbatch(self, output: list[Any]) -> list[Any]:
        ends = [sum(self.counts[: place + 1]) for place in range(len(self.counts))]
        return [output[end - count : end] for end, count in zip(ends, self.counts, strict=True)]

    def encode_response(self, output: list[Any]) -> dict[str, Any]:
        return {"predictions": output}


if __name__ == "__main__":
    batch, delay = int(os.environ["BENCH_BATCH"]), float(os.environ["BENCH_DELAY_S"])
    api = Api(max_batch_size=batch, batch_timeout=delay)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
