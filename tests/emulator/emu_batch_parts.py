"""What the tests of batch prediction share: a Depot, jobs, and a container that keeps what it was asked."""

import ast
import asyncio
import io
import json
import struct
from datetime import datetime, timezone

import aiohttp
import google_crc32c
import pytest
from aiohttp import web
from google.cloud.aiplatform_v1.types import BatchPredictionJob
from google.protobuf import json_format

from cpr_kit.emulator.batch.check import check
from cpr_kit.emulator.batch.run import run
from cpr_kit.emulator.batch.tfrecord import _example_class
from cpr_kit.emulator.settings import Settings
from cpr_kit.emulator.storage.depot import Depot

NOW = datetime(2021, 3, 23, 12, 5, 7, 282_999, tzinfo=timezone.utc)
DIRECTORY = "gs://box/out/prediction-iris-2021_03_23T12_05_07_282Z"

IN = "gs://box/in/rows"


@pytest.fixture
def depot(tmp_path):
    with Depot(tmp_path / "objects") as depot:
        yield depot


def jsonl(values):
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def echo(request):
    return {"predictions": request["instances"]}


def job_of(instances_format="jsonl", uris=("gs://box/in/rows",), *, predictions_format="jsonl", **fields):
    body = {
        "displayName": "job",
        "model": "projects/1/locations/us-central1/models/7@1",
        "inputConfig": {"instancesFormat": instances_format, "gcsSource": {"uris": list(uris)}},
        "outputConfig": {
            "predictionsFormat": predictions_format,
            "gcsDestination": {"outputUriPrefix": "gs://box/out/"},
        },
        "dedicatedResources": {"machineSpec": {"machineType": "n1-standard-4"}},
        "manualBatchTuningParameters": {},
    }
    return json_format.ParseDict(body | fields, BatchPredictionJob.pb()())


class Container:
    """A model server in process: `answer` makes the reply of the request. Keeps every body."""

    def __init__(self, answer=None):
        self.asked = []
        self._answer = answer or (lambda request: {"predictions": [n for n, _ in enumerate(request["instances"])]})

    async def ask(self, body):
        request = json.loads(body)
        self.asked.append(request)
        reply = self._answer(request)
        if asyncio.iscoroutine(reply):
            reply = await reply
        if isinstance(reply, dict):
            reply = 200, json.dumps(reply).encode()
        return reply

    @property
    def instances(self):
        return [instance for request in self.asked for instance in request["instances"]]


def batch(job, depot, container, **options):
    check(job)
    options = {"settings": Settings(), "now": NOW, "model_display_name": "iris", "backoff_s": 0.0} | options
    return run(job, container.ask, depot, **options)


def finished(job, depot, container, **options):
    return asyncio.run(batch(job, depot, container, **options))


def over_http(job, depot, container, **options):
    """The same against a real server on a real socket."""

    async def predict(request):
        status, body = await container.ask(await request.read())
        return web.Response(status=status, body=body, content_type="application/json")

    async def main():
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/predict", predict)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/predict"
            async with aiohttp.ClientSession() as session:

                class Posts:
                    async def ask(self, body):
                        headers = {"Content-Type": "application/json"}
                        async with session.post(url, data=io.BytesIO(body), headers=headers) as response:
                            return response.status, await response.read()

                return await batch(job, depot, Posts(), **options)
        finally:
            await runner.cleanup()

    return asyncio.run(main())


def results(depot, directory=DIRECTORY):
    """The lines of all shards, by the file."""
    return [
        [json.loads(line) for line in depot.read(uri).splitlines()]
        for uri in depot.list(f"{directory}/prediction.results-")
    ]


def lines(depot):
    return [line for shard in results(depot) for line in shard]


def errors(depot):
    text = b"".join(depot.read(uri) for uri in depot.list(f"{DIRECTORY}/prediction.errors_stats-")).decode()
    return [ast.literal_eval(line) for line in text.splitlines()]


def checksum(data):
    """The definition in TensorFlow's lib/hash/crc32c.h, written out a second time."""
    crc = google_crc32c.value(data)
    rotated = (crc >> 15 | crc << 17) % 2**32
    return struct.pack("<I", (rotated + 0xA282EAD8) % 2**32)


def framed(data):
    out = b""
    for record in data:
        length = struct.pack("<Q", len(record))
        out += length + checksum(length) + record + checksum(record)
    return out


def example(features):
    message = _example_class()()
    for name, values in features.items():
        kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type(values[0])]
        getattr(message.features.feature[name], kind).value.extend(values)
    return message.SerializeToString(deterministic=True)
