"""Requests that wait at the same time, computed in one go: TensorFlow Serving's batching, and its parameters' file.

A batch is padded to the next allowed size, so that the model sees few shapes and each is compiled once.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cpr_kit.errors import StartError
from cpr_kit.model_server.signature import Arrays
from cpr_kit.model_server.status import ServingError, invalid

Run = Callable[[Arrays], dict[str, "np.ndarray[Any, Any]"]]

_TOKEN = re.compile(r"#[^\n]*|[A-Za-z_]\w*|-?\d+|\"[^\"]*\"|[{}:;,\[\]]|\S")
_SEPARATORS = (";", ",")
_WRAPPED = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
_REMEDY = "write for example: max_batch_size { value: 32 } allowed_batch_sizes: 8 allowed_batch_sizes: 32"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """BatchingParameters of session_bundle_config.proto, and its defaults."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = self.allowed_batch_sizes
        if list(sizes) != sorted(set(sizes)) or (sizes and sizes[0] < 1):
            raise StartError(f"allowed_batch_sizes must be positive and ascending, not {_listed(sizes)}", _REMEDY)
        if sizes and sizes[-1] != self.max_batch_size:
            raise StartError(
                f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
                f"expected {self.max_batch_size}",
                _REMEDY,
            )
        if self.max_batch_size < 1 or self.num_batch_threads < 1 or self.max_enqueued_batches < 1:
            raise StartError("max_batch_size, num_batch_threads and max_enqueued_batches must be positive", _REMEDY)

    def padded(self, size: int) -> int:
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)


def read(text: str) -> Parameters:
    """A BatchingParameters message in protobuf's text form. Raises StartError for what it may not hold."""
    tokens = deque(word for word in _TOKEN.findall(text) if not word.startswith("#") and word not in _SEPARATORS)
    found: dict[str, Any] = {}
    sizes: list[int] = []
    while tokens:
        name = tokens.popleft()
        if name == "allowed_batch_sizes":
            sizes += _numbers(name, tokens)
        elif name in _WRAPPED:
            found[name] = _wrapped(name, tokens)
        elif name == "thread_pool_name":
            _wrapped(name, tokens)
        else:
            known = ", ".join((*_WRAPPED, "allowed_batch_sizes", "thread_pool_name"))
            raise StartError(f'the batching parameters have "{name}"; served here are {known}', _REMEDY)
    return Parameters(**found, allowed_batch_sizes=tuple(sizes))


def _numbers(name: str, tokens: deque[str]) -> list[int]:
    _expect(name, tokens, ":")
    if not tokens or tokens[0] != "[":
        return [_number(name, tokens)]
    tokens.popleft()
    found = []
    while tokens and tokens[0] != "]":
        found.append(_number(name, tokens))
    _expect(name, tokens, "]")
    return found


def _wrapped(name: str, tokens: deque[str]) -> int:
    if tokens and tokens[0] == ":":
        tokens.popleft()
    for token in ("{", "value", ":"):
        _expect(name, tokens, token)
    value = 0 if tokens and tokens[0].startswith('"') and tokens.popleft() else _number(name, tokens)
    _expect(name, tokens, "}")
    return value


def _expect(name: str, tokens: deque[str], token: str) -> None:
    found = tokens.popleft() if tokens else "the end of the file"
    if found != token:
        raise StartError(f'the batching parameters have {found} where {name} needs "{token}"', _REMEDY)


def _number(name: str, tokens: deque[str]) -> int:
    found = tokens.popleft() if tokens else "the end of the file"
    if not found.lstrip("-").isdecimal():
        raise StartError(f"the batching parameters have {found} where {name} needs a number", _REMEDY)
    return int(found)


def _listed(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))


@dataclass(frozen=True, kw_only=True)
class _Task:
    inputs: Arrays
    size: int
    form: tuple[Any, ...]  # what tasks of one batch have in common: all of their shapes but the first dimension
    arrived: float
    done: Future[dict[str, np.ndarray[Any, Any]]] = field(default_factory=Future)


class Batcher:
    """A `Run` around a `Run`. Its threads end with `close`."""

    def __init__(self, run: Run, parameters: Parameters) -> None:
        self._run = run
        self._parameters = parameters
        self._waiting: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._forming = threading.Lock()  # by one thread at a time: several would share out what belongs together
        self._closed = False
        for number in range(parameters.num_batch_threads):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        task = _task(inputs)
        limit = self._parameters.max_batch_size
        if task.size > limit:
            raise invalid(f"Task size {task.size} is larger than maximum input batch size {limit}")
        with self._changed:
            if self._closed:
                raise ServingError("UNAVAILABLE", "the version that was asked is being unloaded")
            if sum(each.size for each in self._waiting) + task.size > limit * self._parameters.max_enqueued_batches:
                raise ServingError("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full")
            self._waiting.append(task)
            self._changed.notify()
        return task.done.result()

    def close(self) -> None:
        """What waits is still computed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while batch := self._take():
            try:
                answers = self._compute(batch)
            except BaseException as error:  # noqa: BLE001  it is raised where each task waits
                for task in batch:
                    task.done.set_exception(error)
            else:
                for task, answer in zip(batch, answers, strict=True):
                    task.done.set_result(answer)

    def _take(self) -> list[_Task]:
        """The next batch; empty once the batcher is closed and nothing waits."""
        with self._forming, self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
            batch = [self._waiting.popleft()]
            room = self._parameters.max_batch_size - batch[0].size
            deadline = batch[0].arrived + self._parameters.batch_timeout_micros / 1e6
            while room > 0:
                if self._waiting:
                    if self._waiting[0].form != batch[0].form or self._waiting[0].size > room:
                        break
                    batch.append(self._waiting.popleft())
                    room -= batch[-1].size
                elif self._closed or (left := deadline - time.monotonic()) <= 0 or not self._changed.wait(left):
                    break
            return batch

    def _compute(self, batch: list[_Task]) -> list[dict[str, np.ndarray[Any, Any]]]:
        size = sum(task.size for task in batch)
        padding = self._parameters.padded(size) - size
        joined = {}
        for name in batch[0].inputs:
            parts = [task.inputs[name] for task in batch]
            # Rows of the request itself: the model takes them, whatever they hold.
            parts += [np.repeat(parts[0][:1], padding, axis=0)] * bool(padding)
            joined[name] = np.concatenate(parts) if len(parts) > 1 else parts[0]
        outputs = self._run(joined)
        if any(not value.ndim or len(value) != size + padding for value in outputs.values()):
            raise ServingError(
                "FAILED_PRECONDITION",
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors; serve this model without --enable_batching",
            )
        ends = np.cumsum([task.size for task in batch])
        return [
            {name: value[end - task.size : end] for name, value in outputs.items()}
            for task, end in zip(batch, ends, strict=True)
        ]


def _task(inputs: Arrays) -> _Task:
    sizes = {len(value) if value.ndim else None for value in inputs.values()}
    if len(sizes) != 1 or None in sizes:
        raise invalid("Batching input tensors must have the same, non-zero number of dimensions and batch size")
    size = sizes.pop()
    if not size:
        raise invalid("Batching input tensors must have a batch size of at least 1")
    form = tuple((name, value.shape[1:]) for name, value in sorted(inputs.items()))
    return _Task(inputs=inputs, size=size, form=form, arrived=time.monotonic())
