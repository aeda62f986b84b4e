"""Batching: its parameters' file, and what becomes of requests that wait together."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cpr_kit.errors import StartError
from cpr_kit.model_server import batching
from cpr_kit.model_server.batching import Batcher, Parameters
from cpr_kit.model_server.status import ServingError

SOME = Parameters(
    max_batch_size=8, allowed_batch_sizes=(4, 8), num_batch_threads=1, batch_timeout_micros=0, max_enqueued_batches=2
)


def test_a_file_as_tensorflow_servings_guide_has_it():
    found = batching.read("""
        max_batch_size { value: 128 }
        batch_timeout_micros: { value: 5000 }  # half of a fast request
        max_enqueued_batches { value: 100 };
        num_batch_threads { value: 4 }
        thread_pool_name { value: "cpu" }
        allowed_batch_sizes: 32, allowed_batch_sizes: [64, 128]
    """)
    assert found == Parameters(
        max_batch_size=128,
        batch_timeout_micros=5000,
        max_enqueued_batches=100,
        num_batch_threads=4,
        allowed_batch_sizes=(32, 64, 128),
    )
    assert [found.padded(size) for size in (1, 32, 33, 128)] == [32, 32, 64, 128]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_batch_size: 8", 'have 8 where max_batch_size needs "{"'),
        ("max_batch_size { value: many }", "have many where max_batch_size needs a number"),
        ("max_batch_size { value: 8", 'the end of the file where max_batch_size needs "}"'),
        ("max_size { value: 8 }", 'the batching parameters have "max_size"; served here are max_batch_size'),
        ("pad_variable_length_inputs: true", 'have "pad_variable_length_inputs"'),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "last entry was 4; expected 8"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 8 allowed_batch_sizes: 4", "ascending, not 8, 4"),
        ("max_batch_size { value: 0 }", "must be positive"),
    ],
)
def test_a_file_that_cannot_be_meant(text, said):
    with pytest.raises(StartError) as raised:
        batching.read(text)
    assert said in str(raised.value)


class Model:
    """Doubles x. It answers the first batch once `go` is set, and keeps the sizes that it was asked."""

    def __init__(self):
        self.sizes, self.asked, self.go = [], threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, inputs):
        self.sizes.append(len(inputs["x"]))
        self.asked.set()
        assert self.go.wait(60)
        return {"y": inputs["x"] * 2}


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def batcher(model):
    made = Batcher(model, SOME)
    yield made
    made.close()


def x(*values):
    return {"x": np.array(values, "float32").reshape(-1, 1)}


def test_a_request_is_padded_to_an_allowed_size_and_cut_again(batcher, model):
    for values, size in (((1.0,), 4), ((1.0, 2.0, 3.0, 4.0, 5.0), 8)):
        found = batcher(x(*values))
        assert found["y"].tolist() == [[2 * value] for value in values]
        assert model.sizes[-1] == size


def waiting(batcher, count):
    """Until so many requests stand in the queue."""
    with batcher._changed:
        return len(batcher._waiting) == count


def test_requests_that_wait_together_are_computed_in_one_go(batcher, model):
    model.go.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher, x(0))
        assert model.asked.wait(60)
        rest = [pool.submit(batcher, x(value, value + 0.5)) for value in (1, 2, 3)]
        while not waiting(batcher, 3):
            threading.Event().wait(0.001)
        model.go.set()
        assert first.result(60)["y"].tolist() == [[0]]
        assert [each.result(60)["y"].tolist() for each in rest] == [[[2], [3]], [[4], [5]], [[6], [7]]]
    assert model.sizes == [4, 8]


def test_requests_that_wait_are_one_batch_however_many_threads_compute(model):
    made = Batcher(
        model, Parameters(max_batch_size=4, allowed_batch_sizes=(4,), num_batch_threads=4, batch_timeout_micros=10**8)
    )
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(made, x(value)) for value in range(4)]
        assert [each.result(60)["y"].tolist() for each in asked] == [[[0]], [[2]], [[4]], [[6]]]
    assert model.sizes == [4]
    made.close()


def test_rows_of_another_shape_are_computed_apart(batcher, model):
    model.go.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batcher, x(0))
        assert model.asked.wait(60)
        others = [pool.submit(batcher, {"x": np.ones((1, width), "float32")}) for width in (1, 2)]
        while not waiting(batcher, 2):
            threading.Event().wait(0.001)
        model.go.set()
        assert [each.result(60)["y"].shape for each in (first, *others)] == [(1, 1), (1, 1), (1, 2)]
    assert model.sizes == [4, 4, 4]


def test_a_full_queue_refuses(batcher, model):
    model.go.clear()
    with ThreadPoolExecutor(3) as pool:
        tasks = [pool.submit(batcher, x(0))]
        assert model.asked.wait(60)
        tasks += [pool.submit(batcher, x(*range(8))) for _ in range(2)]
        while not waiting(batcher, 2):
            threading.Event().wait(0.001)
        with pytest.raises(ServingError, match="queue to which this task was submitted is full") as raised:
            batcher(x(1))
        assert raised.value.status_code == 503
        model.go.set()
        assert [len(task.result(60)["y"]) for task in tasks] == [1, 8, 8]


def test_an_error_reaches_each_request_and_the_next_is_served(model):
    broken = Batcher(lambda inputs: {"y": np.float32(1)} if inputs["x"][0, 0] < 0 else model(inputs), SOME)
    with pytest.raises(ServingError, match="0th dimension"):
        broken(x(-1))
    assert broken(x(1))["y"].tolist() == [[2]]
    broken.close()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (x(*range(9)), "Task size 9 is larger than maximum input batch size 8"),
        (x(), "a batch size of at least 1"),
        ({"x": np.float32(1).reshape(())}, "the same, non-zero number of dimensions"),
        ({**x(1), "z": np.ones((2, 1))}, "the same, non-zero number of dimensions"),
    ],
)
def test_what_cannot_be_batched(batcher, inputs, said):
    with pytest.raises(ServingError) as raised:
        batcher(inputs)
    assert said in str(raised.value)
    assert raised.value.status_code == 400


def test_a_closed_batcher_refuses(batcher):
    batcher.close()
    with pytest.raises(ServingError, match="being unloaded"):
        batcher(x(1))
