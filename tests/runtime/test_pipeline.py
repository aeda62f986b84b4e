"""The queue between the server's loop and the model's thread, with both real: any interleaving, fault and cancellation."""

import asyncio
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpr_kit import Predictor, RequestError
from cpr_kit.runtime import metrics, trace
from cpr_kit.runtime.admission import ServiceTime
from cpr_kit.runtime.pipeline import Joined, Pipeline
from cpr_kit.runtime.steps import Call, Steps
from cpr_kit.runtime.thread import ModelExit, ModelThread


class Model(Predictor):
    """Sums rows in several steps, each of which may fail for one number; never runs in two threads at once."""

    wants_array = True

    def __init__(self):
        self.threads = set()
        self.sizes = []

    def load(self, artifacts_uri):
        pass

    def preprocess(self, request):
        self.threads.add(threading.get_ident())
        rows = np.asarray(request["instances"], dtype=float)
        if (rows == 90).any():
            raise RequestError("90 is not preprocessed", 422)
        return rows

    def predict(self, rows):
        self.sizes.append(len(rows))
        if (rows == 91).any():
            raise ValueError("91 is not predicted")
        if (rows == 92).any():
            raise SystemExit("92 ends the program")
        return rows.sum(axis=1)

    def postprocess(self, sums):
        if (sums == 93).any():
            raise KeyError("93 is not postprocessed")
        return {"predictions": sums}


class InlineModel(Model):
    """Answers on the server's loop as well, but never in both places at once."""

    inline = True
    inside = 0

    def preprocess(self, request):
        return super().preprocess(request)

    def predict(self, rows):
        self.inside += 1
        assert self.inside == 1
        try:
            return super().predict(rows)
        finally:
            self.inside -= 1


class AsyncModel(Model):
    async def predict(self, rows):
        await asyncio.sleep(0)
        return Model.predict(self, rows)


@pytest.fixture(scope="module")
def thread():
    return ModelThread()


def pipeline(predictor, thread, rows, delay=0.0):
    return Pipeline(
        Steps(predictor, None), thread, joined=Joined(rows, delay), service=ServiceTime(), counted=metrics.Off()
    )


def call(numbers, **request):
    body = json.dumps({"instances": numbers, **request}).encode()
    return Call(body, {b"content-type": b"application/json"}, max_body=10**6, traced=trace.of([]))


async def outcome(line, numbers):
    try:
        return (await line.answer(call(numbers))).body
    except (RequestError, ValueError, KeyError, ModelExit) as error:
        return type(error), str(error)


NUMBERS = st.one_of(st.integers(0, 5), st.integers(90, 94))
REQUESTS = st.lists(
    st.tuples(
        st.lists(st.lists(NUMBERS, min_size=1, max_size=1), min_size=1, max_size=3),
        st.integers(0, 3),  # turns of the loop before it is sent
        st.one_of(st.none(), st.none(), st.integers(0, 4)),  # turns after which its caller leaves
    ),
    min_size=1,
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(REQUESTS, st.integers(2, 16), st.sampled_from([Model, AsyncModel, InlineModel]), st.sampled_from([0.0, 0.002]))
def test_joined_equals_one_by_one_for_any_interleaving_fault_and_cancellation(thread, requests, rows, kind, delay):
    model = kind()

    async def send(line, numbers, wait, leaves):
        for _ in range(wait):
            await asyncio.sleep(0)
        task = asyncio.create_task(outcome(line, numbers))
        if leaves is None:
            return await task
        for _ in range(leaves):
            await asyncio.sleep(0)
        task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    async def main():
        joined, alone = pipeline(model, thread, rows, delay), pipeline(kind(), thread, 1)
        for _ in range(32 if kind is InlineModel else 0):
            joined._observe(1, 0.0001, 1000, here=False)
        together = await asyncio.wait_for(asyncio.gather(*(send(joined, *request) for request in requests)), 30)
        singles = [await outcome(alone, numbers) for numbers, _, _ in requests]
        assert await asyncio.wait_for(outcome(joined, [[1]]), 30) == b'{"predictions":[1.0]}'
        for (_, _, leaves), got, wanted in zip(requests, together, singles, strict=True):
            assert got == wanted or (leaves is not None and isinstance(got, asyncio.CancelledError))

    asyncio.run(main())
    assert len(model.threads) <= (2 if kind is InlineModel and not delay else 1)
    assert max(model.sizes) <= max(rows, 3)


def test_an_idle_pipeline_wakes_nobody(thread):
    async def main():
        line = pipeline(Model(), thread, 4)
        await outcome(line, [[1]])
        await asyncio.sleep(0.3)  # the model's thread comes to rest
        before = thread_time(thread)
        await asyncio.sleep(1)
        return thread_time(thread) - before

    assert asyncio.run(main()) == 0


def thread_time(thread):
    """Switches of the model's thread: none happens while it sleeps."""
    status = Path(f"/proc/self/task/{thread._thread.native_id}/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines["voluntary_ctxt_switches"]) + int(lines["nonvoluntary_ctxt_switches"])


def test_a_busy_thread_says_since_when(thread):
    release = threading.Event()

    async def main():
        assert thread.busy_since() is None
        task = asyncio.create_task(thread.run(lambda: asyncio.sleep(0, release.wait(10))))
        await asyncio.sleep(0.05)
        thread.busy_since()
        await asyncio.sleep(0.05)
        busy = thread.busy_since()
        release.set()
        await task
        await asyncio.sleep(0.05)
        return busy, thread.busy_since()

    busy, free = asyncio.run(main())
    assert busy is not None
    assert free is None
